"""URLs of Redis: each part of one with Sentinel, decoded, and a clear sentence for one that makes no sense."""

import re

import pytest

from services.common.models.errors import BinderyError
from services.common.redis.client import connect
from services.common.redis.url import ServerAddress, parse_sentinel_url
from services.common.service.settings import ServiceSettings


def test_every_part_of_a_url_with_sentinel_is_decoded() -> None:
    url = parse_sentinel_url(
        "rediss+sentinel://b%2Fg:p%40s%2Fs@one.example:1,[::1]:2,three.example/the%20master/3?ssl_ca_certs=/etc/ca.pem"
    )
    assert url.sentinels == (
        ServerAddress("one.example", 1),
        ServerAddress("::1", 2),
        ServerAddress("three.example", 26379),
    )
    assert (url.master_name, url.has_tls) == ("the master", True)
    assert url.options == {"username": "b/g", "password": "p@s/s", "db": 3, "ssl_ca_certs": "/etc/ca.pem"}
    assert url.tls_options == {"ssl_ca_certs": "/etc/ca.pem"}


def test_a_url_with_sentinel_may_say_little() -> None:
    url = parse_sentinel_url("redis+sentinel://one.example")
    assert url.sentinels == (ServerAddress("one.example", 26379),)
    assert (url.master_name, url.has_tls, url.options) == ("mymaster", False, {"db": 0})


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sentinel://one.example:1/main/0", "has to begin with one of these: redis://, rediss://, unix://"),
        ("one.example:6379", "has to begin with one of these"),
        ("redis://user:se/cret@one.example:1/0", "it can't be taken apart"),
        ("redis+sentinel://user:se/cret@one.example:1/main/0", "the number of the database"),
        ("redis+sentinel://user:secret@one.example:1/main/0/1", "the number of the database"),
        ("redis+sentinel://user:secret@one.example:port/main/0", "each Sentinel needs a host"),
        ("redis+sentinel://user:secret@one.example:1,/main/0", "each Sentinel needs a host"),
        ("redis+sentinel:///main/0", "each Sentinel needs a host"),
        ("redis+sentinel://user:secret@one.example:1/main/?db=x", "it can't be taken apart"),
        ("redis+sentinel://user:secret@[one.example:1/main/0", "it can't be taken apart"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_a_part_of_the_password(url: str, sentence: str) -> None:
    with pytest.raises(BinderyError, match=re.escape(sentence)) as error:
        connect(ServiceSettings(redis_url=url))
    assert "BINDERY_REDIS_URL" in error.value.detail
    assert "cret" not in error.value.detail
    assert error.value.__suppress_context__ or error.value.__context__ is None

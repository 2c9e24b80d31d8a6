"""The resolver's settings: what is refused before the resolver starts."""

import re

import pytest
from pydantic import ValidationError

from services.common.service.start import start_sentence
from services.resolver.settings import ResolverSettings, SpecConfig
from tests.support.settings import settings_for


def test_protocols_are_a_list_without_spaces_and_empty_parts() -> None:
    assert settings_for(ResolverSettings, git_allowed_protocols=" https, ssh,,").git_protocols == {"https", "ssh"}


def test_addresses_of_github_end_without_a_slash() -> None:
    settings = settings_for(ResolverSettings, github_url="https://ghe.test/", github_api_url="https://ghe.test/api/v3/")
    assert (settings.github_url, settings.github_api_url) == ("https://ghe.test", "https://ghe.test/api/v3")


def test_the_configuration_of_repositories_is_read_by_prefix() -> None:
    item = {"pattern": "^org/.*", "config": {"quota": 3}}
    settings = settings_for(ResolverSettings, spec_config={"gh": [item]})
    assert settings.spec_config == {"gh": [SpecConfig.model_validate(item)]}
    assert settings.spec_config["gh"][0].config.model_dump(exclude_none=True) == {"quota": 3}


def test_keys_of_an_operators_own_are_kept_in_a_configuration() -> None:
    item = {"pattern": ".*", "config": {"quota": 3, "node_pool": "big"}}
    settings = settings_for(ResolverSettings, spec_config={"*": [item]})
    assert settings.spec_config["*"][0].config.model_dump(exclude_none=True) == item["config"]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"pattern": "(", "config": {}}, "is not a regular expression"),
        ({"pattern": ".*", "config": {"quota": -2}}, "greater than or equal to -1"),
        ({"pattern": ".*", "config": {"resource_class": ""}}, "at least 1 character"),
        ({"pattern": ".*"}, "Field required"),
    ],
)
def test_a_configuration_that_can_not_hold_is_refused(item: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings_for(ResolverSettings, spec_config={"*": [item]})


@pytest.mark.parametrize(
    ("prefix", "host", "says"),
    [
        ("GL", {"url": "https://x.example"}, "'GL' can't be the prefix of links"),
        ("g/l", {"url": "https://x.example"}, "'g/l' can't be the prefix of links"),
        ("gl", {"url": "x.example"}, "set it to an address such as"),
        ("gl", {"url": "ssh://x.example"}, "set it to an address such as"),
        ("gl", {"url": "https://x.example/?private_token=hunter2"}, "set it to an address such as"),
        ("gl", {"url": "https://ann:hunter2@x.example"}, "no address has a login in it: set `token`"),
        ("gl", {"url": "https://x.example", "tokne": "hunter2"}, "Extra inputs are not permitted"),
        ("gl", {"token": "hunter2"}, "Field required"),
    ],
)
def test_a_forge_without_an_address_or_a_prefix_is_refused(prefix: str, host: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)) as raised:
        settings_for(ResolverSettings, gitlabs={prefix: host})
    assert "hunter2" not in start_sentence(raised.value)


def test_addresses_of_forges_end_without_a_slash() -> None:
    settings = settings_for(ResolverSettings, gitlabs={"lab": {"url": "https://x.example/gitlab/"}})
    assert settings.gitlabs["lab"].url == "https://x.example/gitlab"


@pytest.mark.parametrize(
    "host", ["", "Codeberg.org", "x.example/gitea", "x.example:", "x.example:a", "x_.example%41", "ü.x"]
)
def test_a_gitea_is_named_by_its_host(host: str) -> None:
    with pytest.raises(ValidationError, match="can't be a host"):
        settings_for(ResolverSettings, giteas={host: {"url": "https://x.example"}})
    assert settings_for(ResolverSettings, giteas={"x.example:3000": {"url": "https://x.example"}}).giteas

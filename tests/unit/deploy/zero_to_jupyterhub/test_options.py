"""Options that make no sense are named in a sentence, and those that do are taken."""

import pytest

from deploy.zero_to_jupyterhub.options import OptionError, Options
from tests.support.zero_to_jupyterhub import OPTIONS


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"namespace": "Hubs"}, "--namespace is 'Hubs': a name in Kubernetes has"),
        ({"bindery_namespace": ""}, "--bindery-namespace is ''"),
        ({"image_pull_secrets": ("ok", "n" * 64)}, "--image-pull-secret is 'nnn"),
        ({"token_secret": "-t"}, "--token-secret is '-t'"),
        ({"allowed_origins": "a.example"}, "--allowed-origins has 'a.example', which is no web site"),
        ({"allowed_origins": "http://["}, "--allowed-origins has 'http://[', which is no web site"),
        ({"allowed_origins": "*,https://a.example/pages"}, "has 'https://a.example/pages'"),
        ({"memory_limit": "2 GB"}, "--memory-limit is '2 GB': give bytes, or a number with K, M, G or T"),
        ({"memory_guarantee": "0"}, "--memory-guarantee is '0'"),
        ({"memory_guarantee": "2G"}, "--memory-guarantee (2G) is more than --memory-limit (1G)"),
        ({"idle_timeout_seconds": -1}, "--idle-timeout is -1: it must be 0 or more"),
        ({"max_age_seconds": -1}, "--max-age is -1"),
        ({"start_timeout_seconds": 0}, "--start-timeout is 0: it must be 1 or more"),
        ({"start_max_seconds": 59}, "--start-max is 59: it must be 60 or more"),
        ({"concurrent_spawns": 0}, "--concurrent-spawns is 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(OptionError) as error:
        Options(**OPTIONS | changes)
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {"allowed_origins": ""},
        {"allowed_origins": "*"},
        {"allowed_origins": "http://localhost:8888/ , https://a.example"},
        {"memory_guarantee": "1G"},
        {"memory_guarantee": "1073741824", "memory_limit": "1G"},
        {"idle_timeout_seconds": 0, "max_age_seconds": 0},
    ],
)
def test_options_at_the_edge_are_taken(changes: dict[str, object]) -> None:
    Options(**OPTIONS | changes)

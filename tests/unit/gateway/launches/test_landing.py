"""Where a launch link leads, and where it never does."""

from urllib.parse import parse_qsl

import pytest

from services.common.models.errors import BinderyError
from services.gateway.launches.landing import landing_url, path_from_query, require_hub

SERVER = "https://hub.x/user/u/"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, f"{SERVER}?token=T"),
        ({"urlpath": "/lab/tree/a.ipynb"}, f"{SERVER}lab/tree/a.ipynb?token=T"),
        ({"labpath": "a b/c.ipynb"}, f"{SERVER}doc/tree/a%20b/c.ipynb?token=T"),
        ({"filepath": "index.ipynb/"}, f"{SERVER}tree/index.ipynb?token=T"),
        ({"urlpath": "tree?x=1#frag"}, f"{SERVER}tree?x=1&token=T#frag"),
        ({"urlpath": "//evil.example/x"}, f"{SERVER}evil.example/x?token=T"),
    ],
)
def test_links_lead_where_binderhubs_lead(query: dict[str, str], expected: str) -> None:
    assert landing_url(SERVER, "T", path_from_query(query)) == expected


def test_labpath_wins_over_filepath_and_that_over_urlpath() -> None:
    assert path_from_query({"urlpath": "u", "filepath": "f", "labpath": "l"}) == "doc/tree/l"
    assert path_from_query({"urlpath": "u", "filepath": "f"}) == "tree/f"


def test_names_of_files_may_hold_what_means_something_in_a_url() -> None:
    assert path_from_query({"labpath": "why?#100%.ipynb"}) == "doc/tree/why%3F%23100%25.ipynb"


@pytest.mark.parametrize(
    ("query", "opened"),
    [
        ("labpath=Wie%3F%20%231%20%26%2050%25%20(neu).ipynb", "doc/tree/Wie%3F%20%231%20&%2050%25%20(neu).ipynb"),
        ("filepath=%C3%9Cbungen%2Fgr%C3%B6%C3%9Fe.ipynb", "tree/%C3%9Cbungen/gr%C3%B6%C3%9Fe.ipynb"),
        ("urlpath=lab%2Ftree%2Fx%253By%2526z%253D1%252B.ipynb", "lab/tree/x%3By%26z%3D1%2B.ipynb"),
        (
            "urlpath=git-pull%3Frepo%3Dhttps%253A%252F%252Fx.example%252Fann%26urlpath%3Dlab%252Ftree%252Fa%2520b"
            "%26branch%3Dwip",
            "git-pull?repo=https%3A%2F%2Fx.example%2Fann&urlpath=lab%2Ftree%2Fa%20b&branch=wip",
        ),
        ("filepath=a.ipynb%23part", "tree/a.ipynb%23part"),
    ],
)
def test_each_encoding_of_a_links_query_is_undone_once(query: str, opened: str) -> None:
    fields = dict(parse_qsl(query, strict_parsing=True))
    assert landing_url(SERVER, "", path_from_query(fields)) == f"{SERVER}{opened}"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/x",
        "HTTPS://evil.example/x",
        " https://evil.example/x",
        "ht\ntps://evil.example/x",
        "\x00https://evil.example",
        "https:/evil.example",
        "https:\\\\evil.example",
        "javascript://%0aalert(1)",
        "../../hub/token",
        "lab/../../v/",
        "lab/%2e%2e/%2E./../v/",
        "lab/..%2f..%2f..%2fuser%2fv",
        "lab/%252e%252e/v",
        "lab\\..\\..\\v",
        "%25252525252e%25252525252e/",
        "https://hub.x/user/u.evil/",
        "https://hub.x/user/u/../v/",
    ],
)
def test_a_path_that_leads_out_of_the_server_opens_its_first_page(path: str) -> None:
    assert landing_url(SERVER, "T", path) == f"{SERVER}?token=T"


@pytest.mark.parametrize("path", ["//evil.example", "\\\\evil.example", "/\\evil.example", "///evil.example", "@evil"])
def test_tricks_with_slashes_stay_below_the_server(path: str) -> None:
    assert landing_url(SERVER, "T", path).startswith(SERVER)


def test_an_absolute_address_of_the_server_itself_is_its_path() -> None:
    assert landing_url(SERVER, "T", f"{SERVER}lab?reset") == f"{SERVER}lab?reset&token=T"


def test_only_our_token_is_sent() -> None:
    assert landing_url(SERVER, "a/b+", "lab?token=X&%74oken=Y&z") == f"{SERVER}lab?z&token=a%2Fb%2B"


def test_what_is_encoded_stays_and_what_must_be_is() -> None:
    path = 'git-pull?repo=https%3A%2F%2Fx.y%2Fz&q="<ü>#a b'
    assert landing_url(SERVER, "", path) == f"{SERVER}git-pull?repo=https%3A%2F%2Fx.y%2Fz&q=%22%3C%C3%BC%3E#a%20b"
    assert landing_url(SERVER, "", "100%/a%zz") == f"{SERVER}100%25/a%25zz"


@pytest.mark.parametrize("hub", ["https://hub.x", "https://hub.x/", "https://hub.x:443/user", "https://HUB.x"])
def test_servers_of_the_configured_hub_are_opened(hub: str) -> None:
    assert require_hub(SERVER, hub) == SERVER


@pytest.mark.parametrize(
    "url",
    [
        "http://hub.x/user/u/",
        "https://hub.x:8443/user/u/",
        "https://hub.x.evil/user/u/",
        "https://hub.x@evil/user/u/",
        "https://hub.x/jupyterx/user/u/",
        "https://hub.x/jupyter/../user/u/",
        "//hub.x/jupyter/",
        "javascript:alert(1)",
        "https://hub.x:port/jupyter/",
    ],
)
def test_servers_elsewhere_are_not_opened(url: str) -> None:
    with pytest.raises(BinderyError, match="BINDERY_HUB_URL"):
        require_hub(url, "https://hub.x/jupyter")

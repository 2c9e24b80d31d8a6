"""The pages as a browser without scripts sees them."""

import html
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.common.models import LaunchOptions
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.support.fake_gateway import OWN, pages_client, token_of
from tests.support.fake_launches import FakeLaunches
from tests.support.sample_providers import PROVIDERS
from tests.support.settings import settings_for


@pytest.fixture
async def launches() -> AsyncIterator[FakeLaunches]:
    fake_launches = FakeLaunches("http://127.0.0.1:9000/user/u/")
    yield fake_launches
    await fake_launches.aclose()


@pytest.fixture
async def client(launches: FakeLaunches) -> AsyncIterator[httpx.AsyncClient]:
    async with pages_client(launches) as client:
        yield client


async def sends(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    return await client.post("/launches", data={"token": await token_of(client), **fields})


# Home


async def test_home_has_a_form_with_every_repository_type(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    for kind in PROVIDERS:
        assert f'value="{kind["id"]}"' in page
    assert 'name="repository"' in page


async def test_show_link_works_without_scripts_and_keeps_what_was_typed(client: httpx.AsyncClient) -> None:
    page = (await client.get("/", params={"provider": "gh", "repository": "o/r", "path": "a.ipynb"})).text
    assert f"{OWN}/v2/gh/o/r/HEAD?urlpath=%2Fdoc%2Ftree%2Fa.ipynb" in page
    assert 'value="o/r"' in page


async def test_what_is_typed_is_never_markup(client: httpx.AsyncClient) -> None:
    evil = '"><script>alert(1)</script>'
    for params in ({"repository": f"o/{evil}", "path": evil, "ref": evil}, {"provider": evil}):
        assert "<script>alert" not in (await client.get("/", params=params)).text


# A link to confirm


async def test_a_launch_link_shows_what_it_would_launch_and_starts_nothing(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    reply = await client.get("/v2/git/https%3A%2F%2Fx.y%2Fz/main?labpath=a%20b.ipynb&urlpath=lab")
    assert reply.status_code == 200
    assert "https://x.y/z" in reply.text
    assert 'name="spec" value="https%3A%2F%2Fx.y%2Fz/main"' in reply.text
    assert 'name="path" value="doc/tree/a%20b.ipynb"' in reply.text
    assert launches.requests == []


@pytest.mark.parametrize(
    ("link", "is_doubtful"),
    [
        (f"gh/org/repo/{'ab' * 20}", True), ("gh/org/repo/refs%2Fpull%2F1%2Fhead", True), ("gh/org/repo/main", False),
        (f"git/https%3A%2F%2Fx.y%2Fz/{'ab' * 20}", True),
    ],
)  # fmt: skip
async def test_it_says_that_a_commit_may_be_anybodys(client: httpx.AsyncClient, link: str, is_doubtful: bool) -> None:
    reply = await client.get(f"/v2/{link}")
    assert reply.status_code == 200
    assert ("does not say whose commit this is" in reply.text) is is_doubtful


async def test_its_button_launches_exactly_that(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    link = "/v2/git/https%3A%2F%2Fx.y%2Fwarm/main?urlpath=/lab?x=1"
    page = (await client.get(link)).text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token
    fields = {name: html.unescape(value) for name, value in fields.items()}
    reply = await client.post("/launches", data=fields | {"token": token[1]})
    assert reply.status_code == 303
    assert re.fullmatch(r"/launches/\w{43}", reply.headers["location"])
    assert launches.requests == [
        {
            "spec": "git/https%3A%2F%2Fx.y%2Fwarm/main",
            "options": LaunchOptions(path="lab?x=1"),
            "client_ip": "127.0.0.1",
            "host": f"{OWN}/",
        }
    ]


async def test_an_unknown_repository_type_is_a_page_that_names_those_that_there_are(client: httpx.AsyncClient) -> None:
    reply = await client.get("/v2/svn/o/r/HEAD")
    assert reply.status_code == 404
    assert "gh (GitHub)" in reply.text
    assert "<h1" in reply.text


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({}, "code on this computer, as you"),
        ({"executor": "docker"}, "code in containers that this computer starts"),
        ({"local_mode": False, "public_url": OWN}, "in a server of its own"),
    ],
)
async def test_a_launch_link_warns_of_what_its_code_will_have_in_reach(
    settings: dict[str, object], warning: str, launches: FakeLaunches
) -> None:
    async with pages_client(launches, **settings) as client:
        assert warning in (await client.get("/v2/gh/o/r/HEAD")).text


@pytest.mark.parametrize("path", ["/v2/gh/o/r", "/v2/gh/o", "/v2/gh/", "/v2/gh", "/v2/git/HEAD", "/v2/zenodo/x"])
async def test_an_incomplete_link_is_a_page_that_shows_a_complete_one(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert reply.status_code == 400
    assert f"looks like {'/'.join(path.split('/')[:3])}/" in html.unescape(reply.text)


@pytest.mark.parametrize(
    "path",
    [
        "https%3A//x.example/ann/notes.git/wip/plots",
        "https://x.example/ann/notes.git/wip/plots",
        "https:/x.example/ann/notes.git/wip/plots",
        "https%3A%2Fx.example%2Fann%2Fnotes.git/wip/plots",
        "https%253A%252F%252Fx.example%252Fann%252Fnotes.git/wip/plots",
    ],
)
async def test_a_link_that_was_changed_on_its_way_leads_to_the_one_that_was_meant(
    client: httpx.AsyncClient, path: str
) -> None:
    reply = await client.get(f"/v2/git/{path}?labpath=a%20b.ipynb")
    meant = "/v2/git/https%3A%2F%2Fx.example%2Fann%2Fnotes.git/wip/plots?labpath=a%20b.ipynb"
    assert (reply.status_code, reply.headers["location"]) == (302, meant)
    assert (await client.get(meant)).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/about", 200), ("/v2/gh/o/r/HEAD", 200), ("/v2/gh/o", 400), ("/repo/o/r", 302), ("/none", 404)],
)
async def test_head_is_answered_as_get_is_without_a_body(client: httpx.AsyncClient, path: str, status: int) -> None:
    head = await client.head(path)
    assert (head.status_code, head.content) == (status, b"")
    assert head.headers.get("content-type") == (await client.get(path)).headers.get("content-type")


async def test_programs_get_errors_as_problems(client: httpx.AsyncClient) -> None:
    reply = await client.get("/v2/svn/o/r/HEAD", headers={"accept": "application/json"})
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == "unknown_provider"
    assert (await client.get("/api/v1/none")).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/repo/o/r", "/v2/gh/o/r/HEAD"),
        ("/repo/o/r/", "/v2/gh/o/r/HEAD"),
        ("/repo/o/r/a%20b/c.ipynb", "/v2/gh/o/r/HEAD?urlpath=%2Fa%20b%2Fc.ipynb"),
    ],
)
async def test_links_of_the_first_binder_still_lead_somewhere(client: httpx.AsyncClient, old: str, new: str) -> None:
    reply = await client.get(old)
    assert (reply.status_code, reply.headers["location"]) == (302, new)


# Launching


async def test_the_form_starts_a_launch_and_a_second_click_joins_it(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    token = await token_of(client)
    fields = {"token": token, "provider": "gh", "repository": "o/warm", "path": "a b.ipynb", "kind": "file"}
    first, second = [(await client.post("/launches", data=fields)).headers["location"] for _ in range(2)]
    assert first == second
    assert launches.requests[0]["options"].path == "doc/tree/a%20b.ipynb"
    other = await client.post("/launches", data=fields | {"repository": "o/other"})
    assert other.headers["location"] != first


async def test_a_form_without_its_token_starts_nothing(client: httpx.AsyncClient, launches: FakeLaunches) -> None:
    await client.get("/")
    for data in ({}, {"token": "made.up"}):
        reply = await client.post("/launches", data={"repository": "o/r", **data})
        assert reply.status_code == 403
        assert "Reload" in reply.text
    assert launches.requests == []


async def test_a_form_of_another_kind_or_too_large_is_refused(client: httpx.AsyncClient) -> None:
    token = await token_of(client)
    assert (await client.post("/launches", json={"token": token})).status_code == 400
    assert (await client.post("/launches", data={"token": token, "path": "x" * 70_000})).status_code == 400


async def test_an_invalid_repository_brings_the_form_back_as_it_was(
    client: httpx.AsyncClient, launches: FakeLaunches
) -> None:
    reply = await sends(client, provider="gh", repository="nonsense", ref="v1")
    assert reply.status_code == 400
    assert 'value="nonsense"' in reply.text
    assert 'role="alert"' in reply.text
    assert (await sends(client, provider="gh", spec="nonsense")).status_code == 400
    assert (await sends(client, provider="nope", spec="o/r/HEAD")).status_code == 404
    assert launches.requests == []


# An operator's own templates, seen in an error page: no other page of a gateway needs no Redis

HTML = {"accept": "text/html"}


async def test_folders_of_the_settings_come_before_our_templates(tmp_path: Path) -> None:
    first = tmp_path / "first"
    second = tmp_path / "second"
    for folder, banner in ((first, "Down on Friday."), (second, "Never shown.")):
        folder.mkdir()
        (folder / "base.html").write_text(
            f'{{% extends "templates/base.html" %}}{{% block banner %}}<p>{banner}</p>{{% endblock %}}'
        )
    settings = settings_for(
        GatewaySettings,
        {
            "service_token": "t" * 32,
            "installation_secret": "s" * 32,
            "public_url": OWN,
            "template_folders": f"{first}, {second}",
        },
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(settings)), base_url=OWN, headers=HTML
    ) as client:
        page = (await client.get("/no-such-page")).text
    assert "Down on Friday." in page
    assert "Never shown." not in page
    assert 'class="masthead"' in page


def test_a_template_folder_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        settings_for(GatewaySettings, {"template_folders": f"{tmp_path}/none"})


@pytest.mark.parametrize("dev_mode", [False, True])
async def test_a_changed_template_is_rendered_without_a_restart_in_development_alone(
    tmp_path: Path, dev_mode: bool
) -> None:
    template = tmp_path / "base.html"
    text = '{{% extends "templates/base.html" %}}{{% block banner %}}<p>{banner}</p>{{% endblock %}}'
    template.write_text(text.format(banner="Before."))
    settings = settings_for(
        GatewaySettings,
        {
            "service_token": "t" * 32,
            "installation_secret": "s" * 32,
            "public_url": OWN,
            "template_folders": str(tmp_path),
            "dev_mode": dev_mode,
        },
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(settings)), base_url=OWN, headers=HTML
    ) as client:
        assert "Before." in (await client.get("/no-such-page")).text
        template.write_text(text.format(banner="After."))
        os.utime(template, (0, 0))  # another time of change, also on a disk that counts whole seconds
        assert ("After." in (await client.get("/no-such-page")).text) is dev_mode

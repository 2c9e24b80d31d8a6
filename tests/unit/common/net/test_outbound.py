"""The checked client against a real server on loopback."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.models.errors import BinderyError
from services.common.net import networks, tls
from services.common.net.checked_url import checked_url
from services.common.net.outbound import CheckedClient, NetworkPolicy
from tests.support.forge import Fault, Forge, Page
from tests.support.tls import certificate_for

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge") as forge:
        forge.pages["/here"] = Page(200, {"X-Kind": "page"}, b"hello")
        yield forge


async def failure(url: str, policy: NetworkPolicy = LOOPBACK, **limits: float) -> BinderyError:
    async with CheckedClient(policy, **limits) as client:  # type: ignore[arg-type]
        with pytest.raises(BinderyError) as failed:
            await client.get(url, max_bytes=1000)
    return failed.value


async def test_a_page_is_read(forge: Forge) -> None:
    async with CheckedClient(LOOPBACK) as client:
        reply = await client.get(f"{forge.url}/here")
    assert (reply.status, reply.headers["x-kind"], reply.body) == (200, "page", b"hello")
    assert forge.requests[0].headers["host"] == f"127.0.0.1:{forge.port}"


async def test_a_private_address_is_refused_before_anything_is_sent(forge: Forge) -> None:
    error = await failure(f"{forge.url}/here", NetworkPolicy())
    assert error.code == "address_not_allowed"
    assert "127.0.0.1 may not be reached" in error.detail
    assert forge.requests == []


async def test_a_name_that_leads_to_loopback_is_refused(forge: Forge) -> None:
    error = await failure(f"http://localhost:{forge.port}/here", NetworkPolicy())
    assert error.code == "address_not_allowed"
    assert "localhost may not be reached" in error.detail
    assert forge.requests == []


async def test_a_name_is_looked_up_once_and_that_answer_is_used(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"]]

    async def changing(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    monkeypatch.setattr(networks, "look_up", changing)
    async with CheckedClient(LOOPBACK) as client:
        answer = await client.follow(f"http://repo.example:{forge.port}/here")
    assert (answer.host, answer.port, answer.address) == ("repo.example", forge.port, "127.0.0.1")
    assert len(answers) == 2
    assert forge.requests[0].headers["host"] == f"repo.example:{forge.port}"


async def test_the_next_address_is_tried_when_one_does_not_answer(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(_host: str, _port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    monkeypatch.setattr(networks, "look_up", two)
    async with CheckedClient(LOOPBACK) as client:
        assert (await client.follow(f"http://repo.example:{forge.port}/here")).address == "127.0.0.1"


async def test_tls_goes_by_the_name_though_the_address_is_pinned(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def here(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    trusted, context = certificate_for("repo.example", tmp_path)
    forge.serve_tls(context)
    monkeypatch.setattr(networks, "look_up", here)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    tls.tls_context.cache_clear()
    try:
        async with CheckedClient(LOOPBACK) as client:
            assert (await client.get(f"https://repo.example:{forge.port}/here")).body == b"hello"
        error = await failure(f"https://other.example:{forge.port}/here")
    finally:
        tls.tls_context.cache_clear()
    assert error.code == "provider_unavailable"
    assert "can't be trusted" in error.detail


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_to_the_end(forge: Forge, status: int) -> None:
    forge.pages["/a"] = Page(status, {"Location": "b"})
    forge.pages["/b"] = Page(status, {"Location": f"{forge.url}/here"})
    async with CheckedClient(LOOPBACK) as client:
        assert (await client.get(f"{forge.url}/a")).url == f"{forge.url}/here"
        assert (await client.follow(f"{forge.url}/a")).url == f"{forge.url}/here"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("http://10.0.0.1/", "10.0.0.1 may not be reached"),
        ("http://[::1]:80/", "::1 may not be reached"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 may not be reached"),
        ("file:///etc/passwd", "redirects to something that is not followed"),
        ("gopher://127.0.0.1/", "redirects to something that is not followed"),
        ("http://0x7f.1/", "redirects to something that is not followed"),
        ("http://%31%30.example/", "redirects to something that is not followed"),
        ("http://-foo.example/", "redirects to something that is not followed"),
        ("http://[fe80::1%25eth0]/", "redirects to something that is not followed"),
        (f"http://u:{'hunter2' * 40}@127.0.0.1/", "redirects to something that is not followed: 'http://u:[secret]@"),
        ("http://hunter2hunter2hunter2@127.0.0.1/", "redirects to something that is not followed: 'http://[secret]@"),
    ],
)
async def test_a_redirect_is_checked_as_the_first_address_was(forge: Forge, target: str, says: str) -> None:
    forge.pages["/away"] = Page(302, {"Location": target})
    error = await failure(f"{forge.url}/away")
    assert error.code == "address_not_allowed"
    assert says in error.detail


async def test_a_redirect_leaves_https_for_nothing(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate_for("localhost", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    tls.tls_context.cache_clear()
    with Forge(tmp_path / "safe") as safe:
        safe.serve_tls(context)
        safe.pages["/away"] = Page(302, {"Location": f"{forge.url}/here"})
        safe.pages["/there"] = Page(200, {}, b"safe")
        forge.pages["/up"] = Page(302, {"Location": f"https://localhost:{safe.port}/there"})
        try:
            error = await failure(f"https://localhost:{safe.port}/away")
            async with CheckedClient(LOOPBACK) as client:
                assert (await client.get(f"{forge.url}/up")).body == b"safe"
        finally:
            tls.tls_context.cache_clear()
    assert error.code == "address_not_allowed"
    assert error.detail == "localhost redirects from https to http, which is not followed."
    assert [request.path for request in forge.requests] == ["/up"]


async def test_redirects_without_end_are_given_up(forge: Forge) -> None:
    forge.pages["/round"] = Page(302, {"Location": "/round"})
    error = await failure(f"{forge.url}/round")
    assert error.code == "provider_unavailable"
    assert "redirects more than 10 times" in error.detail
    assert len(forge.requests) == 11


async def test_credentials_stay_with_the_host_that_they_are_for(forge: Forge, tmp_path: Path) -> None:
    with Forge(tmp_path / "other") as other:
        other.pages["/there"] = Page(200)
        forge.pages["/away"] = Page(302, {"Location": f"{other.url}/there"})
        async with CheckedClient(LOOPBACK) as client:
            await client.get(f"{forge.url}/away", headers={"Authorization": "token x", "X-Other": "y"})
        assert forge.requests[0].headers["authorization"] == "token x"
        assert "authorization" not in other.requests[0].headers
        assert other.requests[0].headers["x-other"] == "y"


async def test_a_huge_reply_is_not_read_to_its_end(forge: Forge) -> None:
    forge.pages["/huge"] = Page(200, {}, (b"x" * 65536 for _ in itertools.count()))
    error = await failure(f"{forge.url}/huge")
    assert error.code == "provider_unavailable"
    assert "sent more than 1000 bytes" in error.detail


async def test_a_server_that_never_answers_is_given_up(forge: Forge) -> None:
    forge.api_fault = Fault(hold=threading.Event())
    error = await failure(f"{forge.url}/api/x", total_seconds=0.2)
    assert error.code == "provider_unavailable"
    assert "does not answer in time" in error.detail


async def test_a_server_that_drips_is_given_up_at_the_total_deadline(forge: Forge) -> None:
    stop = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stop.wait(0.05):
            yield b"x"

    forge.pages["/slow"] = Page(200, {}, drip())
    started_at = time.monotonic()
    error = await failure(f"{forge.url}/slow", total_seconds=0.5)
    stop.set()
    assert "does not answer in time" in error.detail
    assert time.monotonic() - started_at < 30


async def test_proxies_of_the_environment_are_not_used(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with CheckedClient(LOOPBACK) as client:
        assert (await client.get(f"{forge.url}/here")).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "ftp://example.org/x", "file:///etc/passwd", "//example.org", "example.org", "http://", "http:///x",
        "http://user:hunter2@example.org/", "http://exa mple.org/", "http://example.org/\r\nX: y", "http://0x7f.1/",
        "http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://a\\@127.0.0.1/", "http://example.org:0/",
        "http://example.org:99999/", "http://" + "a" * 5000, "http://%31%30.example/", "http://[fe80::1%25eth0]/",
        "http://-a.example/", "https://ghp_hunter2@example.org/", f"http://u:{'hunter2' * 40}@example.org:99999/",
    ],
)  # fmt: skip
def test_an_address_that_is_not_a_plain_web_address_is_refused(text: str) -> None:
    with pytest.raises(BinderyError) as raised:
        checked_url(text)
    assert raised.value.code == "bad_spec"
    assert "hunter2" not in raised.value.detail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://Example.ORG/x", "https://example.org/x"),
        ("https://example.org./x#part", "https://example.org/x"),
        ("https://[2606:50C0:0::153]/x", "https://[2606:50c0::153]/x"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_addresses_are_brought_to_one_form(text: str, expected: str) -> None:
    assert str(checked_url(text)) == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_post_is_sent_again_to_where_it_is_redirected(forge: Forge, status: int) -> None:
    forge.pages["/a"] = Page(status, {"Location": "/here"})
    async with CheckedClient(LOOPBACK) as client:
        reply = await client.post(f"{forge.url}/a", b"question", headers={"Content-Type": "text/plain"})
    assert (reply.status, reply.body, reply.url) == (200, b"hello", f"{forge.url}/here")
    assert [(request.method, request.headers["content-length"]) for request in forge.requests] == [("POST", "8")] * 2


async def test_a_download_is_read_as_it_arrives(forge: Forge) -> None:
    forge.pages["/endless"] = Page(200, {}, itertools.repeat(b"x" * 1000))
    async with CheckedClient(LOOPBACK) as client, client.download(f"{forge.url}/endless", own_headers={}) as download:
        received = 0
        async for chunk in download.chunks:
            received += len(chunk)
            if received > 100_000:
                break
    assert (download.status, download.host) == (200, "127.0.0.1")
    assert received > 100_000


async def test_a_downloads_own_headers_stay_with_its_origin(forge: Forge, tmp_path: Path) -> None:
    with Forge(tmp_path / "other") as other:
        other.pages["/there"] = Page(200, {}, b"data")
        forge.pages["/a"] = Page(302, {"Location": "/b"})
        forge.pages["/b"] = Page(302, {"Location": f"{other.url}/there"})
        async with (
            CheckedClient(LOOPBACK) as client,
            client.download(f"{forge.url}/a", own_headers={"X-Key": "secret"}, headers={"X-All": "yes"}) as download,
        ):
            assert b"".join([chunk async for chunk in download.chunks]) == b"data"
        assert [request.headers.get("x-key") for request in forge.requests] == ["secret", "secret"]
        assert [(request.headers.get("x-key"), request.headers["x-all"]) for request in other.requests] == [
            (None, "yes")
        ]


async def test_a_download_that_falls_silent_ends(forge: Forge) -> None:
    forge.pages["/silent"] = Page(200, {}, _then_nothing(forge))

    async def download() -> None:
        async with (
            CheckedClient(LOOPBACK, total_seconds=60, silence_seconds=0.2) as client,
            client.download(f"{forge.url}/silent", own_headers={}) as download,
        ):
            async for _ in download.chunks:
                continue

    with pytest.raises(BinderyError, match="does not answer in time") as failed:
        await download()
    assert failed.value.code == "provider_unavailable"


def _then_nothing(forge: Forge) -> Iterator[bytes]:
    yield b"x"
    forge.stopping.wait()

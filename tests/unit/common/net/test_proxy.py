"""The requests that go through an operator's outbound proxy, those that do not, and that its login stays secret."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.builder.executors.process.executor import ProcessExecutor
from services.common.git.fetch import fetch_repository
from services.common.git.remote import list_refs
from services.common.models.errors import BinderyError
from services.common.net import tls
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy
from services.common.net.settings import OutboundSettings
from tests.support.bare_repos import Gitlink
from tests.support.forge import Forge, Page
from tests.support.forward_proxy import ForwardProxy
from tests.support.lfs_objects import BATCH, OBJECTS, LfsObjects
from tests.support.sample_builds import QUICK, attempt_of, collect
from tests.support.settings import settings_for
from tests.support.tls import certificate_for

LOGIN = ("bindery", "hunter2-of-the-proxy")
PUBLIC = NetworkPolicy()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge") as forge:
        forge.pages["/here"] = Page(200, {}, b"hello")
        yield forge


@pytest.fixture
def proxy(forge: Forge) -> Iterator[ForwardProxy]:
    """A proxy to whom alone the forge is known as forge.test."""
    with ForwardProxy({"forge.test": ("127.0.0.1", forge.port)}, login=LOGIN) as proxy:
        yield proxy


def ours(proxy: ForwardProxy, exceptions: str = "", **other: str) -> OutboundProxy:
    outbound_proxy = OutboundProxy.of(other.get("url", proxy.url), exceptions)
    assert outbound_proxy is not None
    return outbound_proxy


async def failure(url: str, proxy: OutboundProxy, policy: NetworkPolicy = PUBLIC) -> BinderyError:
    async with CheckedClient(policy, proxy=proxy) as client:
        with pytest.raises(BinderyError) as failed:
            await client.get(url)
    assert "hunter2" not in failed.value.detail
    return failed.value


async def test_names_are_left_to_the_proxy(forge: Forge, proxy: ForwardProxy) -> None:
    async with CheckedClient(PUBLIC, proxy=ours(proxy)) as client:
        assert (await client.get("http://forge.test/here")).body == b"hello"
        assert (await client.follow("http://forge.test/here")).address == ""
    assert proxy.requests == ["GET http://forge.test/here"] * 2
    assert forge.requests[0].headers["host"] == "forge.test"
    assert "proxy-authorization" not in forge.requests[0].headers


@pytest.fixture
def secure_forge(forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    """The forge, speaking TLS as forge.test, with a certificate that is trusted here."""
    trusted, context = certificate_for("forge.test", tmp_path)
    forge.serve_tls(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("GIT_SSL_CAINFO", str(trusted))
    tls.tls_context.cache_clear()
    yield forge
    tls.tls_context.cache_clear()


async def test_https_is_tunnelled_and_checked_to_its_end(
    secure_forge: Forge, proxy: ForwardProxy, tmp_path: Path
) -> None:
    sha = secure_forge.create_repo("org", "repo", {"a.txt": "one"})
    proxy.names["other.test"] = ("127.0.0.1", secure_forge.port)
    async with CheckedClient(PUBLIC, proxy=ours(proxy)) as client:
        assert (await client.get("https://forge.test/here")).body == b"hello"
    untrusted = await failure("https://other.test/here", ours(proxy))
    assert "other.test can't be trusted (TLS)" in untrusted.detail
    target = tmp_path / "checkout"
    await fetch_repository(
        "https://forge.test/org/repo", sha, target, policy=PUBLIC, proxy=ours(proxy), timeout_seconds=60
    )
    assert (target / "a.txt").read_text() == "one"
    assert set(proxy.requests) == {"CONNECT forge.test:443", "CONNECT other.test:443"}


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/x", "http://169.254.169.254/latest", "http://[fd00::1]/x", "https://127.0.0.1/x",
     "http://localhost/x", "http://[::ffff:10.0.0.1]/x"],
)  # fmt: skip
async def test_private_addresses_in_a_url_reach_no_proxy(proxy: ForwardProxy, url: str) -> None:
    error = await failure(url, ours(proxy))
    assert error.code == "address_not_allowed"
    assert proxy.requests == proxy.refusals == []


async def test_a_redirect_to_a_private_address_reaches_no_proxy(forge: Forge, proxy: ForwardProxy) -> None:
    forge.pages["/away"] = Page(302, {"Location": "http://10.0.0.1/x"})
    error = await failure("http://forge.test/away", ours(proxy))
    assert (error.code, "10.0.0.1 may not be reached" in error.detail) == ("address_not_allowed", True)
    assert proxy.requests == ["GET http://forge.test/away"]
    assert proxy.refusals == []


async def test_internal_addresses_are_requested_without_the_proxy(forge: Forge, proxy: ForwardProxy) -> None:
    opened = NetworkPolicy.of("127.0.0.0/8")
    for url, exceptions in (
        (f"http://localhost:{forge.port}/here", ""),
        (f"http://127.0.0.1:{forge.port}/here", ""),
        (f"http://127.0.0.1:{forge.port}/here", "127.0.0.0/8"),
    ):
        async with CheckedClient(opened, proxy=ours(proxy, exceptions)) as client:
            assert (await client.get(url)).body == b"hello"
    inside = await failure("http://git.inside.test/x", ours(proxy, "inside.test"))
    assert inside.code in {"ref_not_found", "provider_unavailable"}  # as the name servers here say
    assert "git.inside.test" in inside.detail
    assert "proxy" not in inside.detail
    assert proxy.requests == proxy.refusals == []


async def test_a_refusal_by_the_proxy_is_reported(proxy: ForwardProxy) -> None:
    for scheme in ("http", "https"):
        wrong = await failure(
            f"{scheme}://forge.test/x", ours(proxy, url=f"http://someone:else@127.0.0.1:{proxy.port}")
        )
        assert wrong.code == "provider_unavailable"
        assert wrong.detail == "The outbound proxy does not accept the login of this Bindery."
    refusal = await failure("https://metadata.test/x", ours(proxy))
    assert refusal.code == "address_not_allowed"
    assert refusal.detail == "The outbound proxy of this Bindery does not let it reach metadata.test (it answered 403)."
    proxy.status = 502
    away = await failure("https://metadata.test/x", ours(proxy))
    assert away.code == "provider_unavailable"
    assert away.detail == "metadata.test can't be reached: the outbound proxy answered 502."
    nobody = await failure("http://forge.test/x", ours(proxy, url="http://bindery:hunter2@127.0.0.1:1"))
    assert nobody.detail == "forge.test can't be reached through the outbound proxy."


@pytest.fixture
def arguments_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with every argument that git is run with."""
    real = shutil.which("git")
    log = tmp_path / "arguments"
    log.touch()
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "git"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {log}\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


async def test_git_fetches_submodules_too_through_it_with_its_login_outside_the_arguments(
    forge: Forge, proxy: ForwardProxy, tmp_path: Path, arguments_of_git: Path
) -> None:
    lib = forge.create_repo("org", "lib", {"lib.txt": "lib"})
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = http://forge.test/org/lib\n'
    sha = forge.create_repo("org", "repo", {".gitmodules": modules, "lib": Gitlink(lib)})
    lines: list[str] = []
    target = tmp_path / "checkout"
    url = "http://forge.test/org/repo"
    await fetch_repository(url, sha, target, policy=PUBLIC, proxy=ours(proxy), timeout_seconds=60, on_line=lines.append)
    assert (target / "lib/lib.txt").read_text() == "lib"
    assert "POST http://forge.test/org/lib/git-upload-pack" in proxy.requests
    arguments = arguments_of_git.read_text()
    assert "fetch" in arguments
    config = (target / ".git/config").read_text()
    assert "hunter2" not in arguments + config + "".join(lines)


async def test_submodules_by_ssh_are_tried_by_https(secure_forge: Forge, proxy: ForwardProxy, tmp_path: Path) -> None:
    places = {
        "scp": "git@forge.test:org/lib.git",
        "bare": "forge.test:org/lib",
        "ssh": "ssh://git@forge.test:2222/org/lib",
        "git": "git://forge.test/org/lib",
    }
    lib = secure_forge.create_repo("org", "lib", {"lib.txt": "lib"})
    modules = "".join(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, url in places.items())
    files = {".gitmodules": modules} | {path: Gitlink(lib) for path in places}
    sha = secure_forge.create_repo("org", "repo", files)
    lines: list[str] = []
    target = tmp_path / "checkout"
    url = "https://forge.test/org/repo"
    await fetch_repository(url, sha, target, policy=PUBLIC, proxy=ours(proxy), timeout_seconds=60, on_line=lines.append)
    assert {path: (target / path / "lib.txt").read_text() for path in places} == dict.fromkeys(places, "lib")
    assert "Submodule scp has no http or https URL: https://forge.test/org/lib.git is tried instead" in lines
    assert set(proxy.requests) == {"CONNECT forge.test:443"}


async def test_contents_of_git_lfs_come_through_it(forge: Forge, proxy: ForwardProxy, tmp_path: Path) -> None:
    forge.lfs = LfsObjects()
    forge.lfs.href = f"http://forge.test{OBJECTS}"
    sha = forge.create_repo("org", "repo", {".gitattributes": "*.npy filter=lfs\n", "a.npy": forge.lfs.add(b"data")})
    target = tmp_path / "checkout"
    url = "http://forge.test/org/repo"
    lines: list[str] = []
    await fetch_repository(url, sha, target, policy=PUBLIC, proxy=ours(proxy), timeout_seconds=60, on_line=lines.append)
    assert (target / "a.npy").read_bytes() == b"data"
    assert f"POST http://forge.test/org/repo.git{BATCH}" in proxy.requests
    assert any(request.startswith(f"GET http://forge.test{OBJECTS}") for request in proxy.requests)
    assert "hunter2" not in "".join(lines)


async def test_contents_of_git_lfs_are_not_fetched_unencrypted_for_a_server_of_https(
    secure_forge: Forge, proxy: ForwardProxy, tmp_path: Path
) -> None:
    secure_forge.lfs = LfsObjects()
    secure_forge.lfs.href = f"http://forge.test{OBJECTS}"
    pointer = secure_forge.lfs.add(b"data")
    sha = secure_forge.create_repo("org", "repo", {".gitattributes": "*.npy filter=lfs\n", "a.npy": pointer})
    target = tmp_path / "checkout"
    url = "https://forge.test/org/repo"
    lines: list[str] = []
    await fetch_repository(url, sha, target, policy=PUBLIC, proxy=ours(proxy), timeout_seconds=60, on_line=lines.append)
    assert lines[-1].endswith("a.npy. forge.test leads from https to http, which is not followed.")
    assert (target / "a.npy").read_text() == pointer
    assert set(proxy.requests) == {"CONNECT forge.test:443"}


async def test_refs_are_listed_through_it(
    forge: Forge, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, arguments_of_git: Path
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    answer = await list_refs("http://forge.test/org/repo", "HEAD", policy=PUBLIC, proxy=ours(proxy))
    assert answer.refs["HEAD"] == sha
    monkeypatch.setattr("services.common.git.remote.ADVERTISEMENT_BYTES", 0)
    for forge.speaks_v2 in (True, False):  # without protocol 2, git asks itself
        answer = await list_refs("http://forge.test/org/repo", "HEAD", policy=PUBLIC, proxy=ours(proxy))
        assert (answer.refs["HEAD"], answer.url) == (sha, "http://forge.test/org/repo")
    assert "ls-remote" in arguments_of_git.read_text()
    assert "hunter2" not in arguments_of_git.read_text()


@pytest.mark.slow
async def test_a_build_that_is_a_process_fetches_through_it(forge: Forge, proxy: ForwardProxy, tmp_path: Path) -> None:
    sha = forge.create_repo("org", "repo", {"Dockerfile": "FROM scratch\n"})
    executor = ProcessExecutor(tmp_path / "data", QUICK, ours(proxy, "inside.test,10.0.0.0/8"))
    attempt = attempt_of("http://forge.test/org/repo", sha)
    await executor.ensure(attempt)
    messages, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome is not None
    assert not outcome.ok
    assert "Dockerfile: the process executor" in str(outcome), messages  # which it has read: it was fetched
    assert "POST http://forge.test/org/repo/git-upload-pack" in proxy.requests
    content = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert b"hunter2" not in content


@pytest.mark.parametrize(
    ("url", "exceptions", "says"),
    [
        ("socks5://u:hunter2@proxy.test:1", "", "BINDERY_OUTBOUND_PROXY must be like http://user:password@proxy"),
        ("https://u:hunter2@proxy.test", "", "BINDERY_OUTBOUND_PROXY must be like http://user:password@proxy"),
        ("u:hunter2@proxy.test:3128", "", "BINDERY_OUTBOUND_PROXY must be like http://user:password@proxy"),
        ("http://u:hunter2@pro xy:3128", "", "BINDERY_OUTBOUND_PROXY must be like http://user:password@proxy"),
        ("http://u:hunter2@proxy.test:99999", "", "BINDERY_OUTBOUND_PROXY must be like http://user:password@proxy"),
        ("http://u:hunter2@proxy.test/path", "", "BINDERY_OUTBOUND_PROXY must be like http://user:password@proxy"),
        ("http://u:hunter2@proxy.test", "a.test, b%c", "a list of host names and networks, and 'b%c' is neither"),
    ],
)
def test_an_invalid_setting_is_reported_without_its_login(url: str, exceptions: str, says: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings_for(OutboundSettings, {"outbound_proxy": url, "outbound_proxy_except": exceptions})
    assert says in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_proxy_is_what_the_setting_says() -> None:
    proxy = OutboundProxy.of(
        "http://us%40er:p%3Ass%2F@Proxy.Test.", "inside.test .corp.test *.lab.test,10.0.0.0/8, fd00::/8"
    )
    assert proxy is not None
    assert (proxy.url, proxy.login) == ("http://proxy.test:3128", ("us@er", "p:ss/"))
    assert proxy.url_with_login == "http://us%40er:p%3Ass%2F@proxy.test:3128"
    assert OutboundProxy.of_environment(proxy.environment) == proxy
    assert "p:ss" not in repr(proxy)
    through = ("github.com", "notinside.test", "inside.test.evil.example", "11.0.0.1", "2606:50c0::1")
    direct = ("inside.test", "git.inside.test", "x.corp.test", "x.lab.test", "10.1.2.3", "fd00::1", "127.0.0.1", "::1",
              "localhost")  # fmt: skip
    assert [host for host in through if not proxy.serves(host)] == []
    assert [host for host in direct if proxy.serves(host)] == []
    assert OutboundProxy.of("") is None
    plain = OutboundProxy.of("http://[fd00::1]:8080/")
    assert plain is not None
    assert (plain.url, plain.login, plain.url_with_login) == ("http://[fd00::1]:8080", None, "http://[fd00::1]:8080")

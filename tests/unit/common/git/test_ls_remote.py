"""Asking real git servers for their refs."""

import itertools
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.git import remote as git
from services.common.git import urls as git_urls
from services.common.git.process import GitRunner
from services.common.git.remote import list_refs
from services.common.models.errors import BinderyError
from services.common.net import networks
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.web.problems import problem_response
from tests.support.forge import Fault, Forge, Page

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")


@pytest.fixture(autouse=True, params=["the first answer is enough", "by protocol 2", "git asks itself"])
def _who_asks(request: pytest.FixtureRequest, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "the first answer is enough":
        monkeypatch.setattr(git, "ADVERTISEMENT_BYTES", 0)
    forge.speaks_v2 = request.param != "git asks itself"


async def ls_remote(url: str, *patterns: str, policy: NetworkPolicy, timeout_seconds: float = 20.0) -> dict[str, str]:
    return (await list_refs(url, *patterns, policy=policy, timeout_seconds=timeout_seconds)).refs


async def failure(url: str, policy: NetworkPolicy = LOOPBACK, timeout_seconds: float = 20.0) -> BinderyError:
    with pytest.raises(BinderyError) as failed:
        await ls_remote(url, policy=policy, timeout_seconds=timeout_seconds)
    return failed.value


async def test_refs_come_with_their_full_names(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    tag = forge.tag("org", "repo", "v1", sha, annotated=True)
    assert await ls_remote(f"{forge.url}/org/repo", policy=LOOPBACK) == {
        "HEAD": sha,
        "refs/heads/main": sha,
        "refs/tags/v1": tag,
        "refs/tags/v1^{}": sha,
    }


async def test_a_server_that_answers_git_alone_is_asked_as_git_asks(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with CheckedClient(LOOPBACK) as client:
        assert (await client.get(f"{forge.url}/org/repo/info/refs?service=git-upload-pack")).status == 404
    assert (await ls_remote(f"{forge.url}/org/repo", "HEAD", policy=LOOPBACK))["HEAD"] == sha
    user_agents = [request.headers["user-agent"] for request in forge.requests[1:]]
    assert user_agents
    assert all(name.startswith("git/") for name in user_agents)


async def test_dumb_servers_work_too(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    assert (await ls_remote(f"{forge.url}/dumb/org/repo", "main", policy=LOOPBACK))["refs/heads/main"] == sha


async def test_git_connects_to_the_address_that_was_checked(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(networks, "look_up", here)
    sha = forge.create_repo("org", "repo", {"a": "1"})
    refs = await ls_remote(f"http://no-such-name.invalid:{forge.port}/org/repo", "HEAD", policy=LOOPBACK)
    assert refs["HEAD"] == sha


async def test_redirects_are_followed_for_git(forge: Forge) -> None:
    sha = forge.create_repo("org", "new", {"a": "1"})
    forge.pages["/org/old/info/refs"] = Page(
        301, {"Location": f"{forge.url}/org/new/info/refs?service=git-upload-pack"}
    )
    answer = await list_refs(f"{forge.url}/org/old", "HEAD", policy=LOOPBACK)
    assert (answer.refs["HEAD"], answer.url) == (sha, f"{forge.url}/org/new")


async def test_git_itself_follows_no_redirect(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    located = git_urls.locate

    async def then_moved(*arguments: object, **_options: object) -> object:
        remote = await located(*arguments)  # type: ignore[arg-type]
        moved = Page(302, {"Location": f"{forge.url}/secret/info/refs"})
        forge.pages["/org/repo/info/refs"] = [Page(200, {}, b"001e# service=git-upload-pack\n0000"), moved]
        return remote

    monkeypatch.setattr(git, "locate", then_moved)
    error = await failure(f"{forge.url}/org/repo")
    assert error.code == "provider_unavailable"
    assert not any(request.path.startswith("/secret") for request in forge.requests)


async def test_a_redirect_to_a_private_address_is_refused(forge: Forge) -> None:
    forge.pages["/org/repo/info/refs"] = Page(302, {"Location": "http://10.1.2.3/x/info/refs?service=git-upload-pack"})
    error = await failure(f"{forge.url}/org/repo")
    assert error.code == "address_not_allowed"
    assert "10.1.2.3 may not be reached" in error.detail


async def test_a_private_address_is_refused(forge: Forge) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    error = await failure(f"http://localhost:{forge.port}/org/repo", NetworkPolicy())
    assert error.code == "address_not_allowed"
    assert forge.requests == []


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_missing_repository_is_not_found_and_nothing_prompts(forge: Forge, status: int) -> None:
    forge.git_fault = Fault(status=status, headers={"WWW-Authenticate": 'Basic realm="x"'})
    error = await failure(f"{forge.url}/org/missing")
    assert error.code == "ref_not_found"
    assert f"There is no public git repository at {forge.url}/org/missing" in error.detail
    assert str(status) in error.detail


async def test_a_web_page_is_not_a_repository(forge: Forge) -> None:
    forge.pages["/org/page/info/refs"] = Page(
        200, {"Content-Type": "text/html"}, b"<html>" + b"<p>Welcome to this page.\n" * 100
    )
    error = await failure(f"{forge.url}/org/page")
    assert error.code == "ref_not_found"


async def test_a_server_in_trouble_is_not_called_a_missing_repository(forge: Forge) -> None:
    forge.git_fault = Fault(status=502)
    error = await failure(f"{forge.url}/org/repo")
    assert error.code == "provider_unavailable"
    assert "answered 502" in error.detail


@pytest.mark.parametrize(("after", "seconds"), [("90", 90), ("\u00b2", 300), ("9" * 400, 999_999_999)])
async def test_a_server_that_asks_for_patience_is_given_it(forge: Forge, after: str, seconds: float) -> None:
    forge.git_fault = Fault(status=429, headers={"Retry-After": after})
    error = await failure(f"{forge.url}/org/repo")
    assert (error.code, error.retry_after_seconds) == ("rate_limited", seconds)
    assert problem_response(error.problem).status_code == 503


async def test_a_server_that_never_answers_ends_at_the_deadline(forge: Forge) -> None:
    forge.git_fault = Fault(hold=threading.Event())
    error = await failure(f"{forge.url}/org/repo", timeout_seconds=0.5)
    assert error.code == "provider_unavailable"


@pytest.mark.slow
async def test_git_is_killed_at_the_deadline(forge: Forge) -> None:
    head = b"001e# service=git-upload-pack\n0000"
    calls = itertools.count()

    class SecondTimeHangs:
        def __iter__(self) -> Iterator[bytes]:
            yield head
            if next(calls):
                forge.stopping.wait()

    kind = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    forge.pages["/org/repo/info/refs"] = Page(200, kind, SecondTimeHangs())
    started_at = time.monotonic()
    error = await failure(f"{forge.url}/org/repo", timeout_seconds=2.0)
    assert error.code == "provider_unavailable"
    assert "did not answer within 2 s" in error.detail
    assert time.monotonic() - started_at < 10


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux bounds another process's memory")
@pytest.mark.slow
async def test_a_reply_without_end_ends(forge: Forge) -> None:
    kind = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    row = f"003d{'a' * 40} refs/heads/abcde\n".encode()
    forge.pages["/org/repo/info/refs"] = Page(200, kind, itertools.chain([b"001e# service=git-upload-pack\n0000"],
                                                                        itertools.repeat(row * 1000)))  # fmt: skip
    error = await failure(f"{forge.url}/org/repo", timeout_seconds=2.0)
    assert error.code == "provider_unavailable"


async def test_the_hosts_configuration_and_secrets_stay_out(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text('[http]\n\textraHeader = "X-Leak: yes"\n')
    (home / ".netrc").write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BINDERY_SERVICE_TOKEN", "hidden")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await ls_remote(f"{forge.url}/org/repo", policy=LOOPBACK)
    assert not any("x-leak" in request.headers or "authorization" in request.headers for request in forge.requests)
    assert not any("hidden" in value for value in GitRunner(home=home).environment().values())

"""Provider `gh` of the resolver, against GitHub's API in its recorded shape."""

import json
import threading
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.support.forge import Fault, Forge, Page
from tests.support.forward_proxy import ForwardProxy
from tests.support.in_process_resolver import running_resolver
from tests.support.paths import RECORDED


def recorded(ref: str) -> tuple[str, Page]:
    """A recording of api.github.com: its path, and its answer."""
    name = f"api.github.com_repos_jupyterhub_zero_to_jupyterhub_k8s_commits_{ref}.json"
    exchange = json.loads((RECORDED / name).read_text())
    reply = exchange["response"]
    path = exchange["request"]["url"].removeprefix("https://api.github.com")
    return f"/api{path}", Page(200, reply["headers"], json.dumps(reply["json"]).encode())


@pytest.mark.parametrize(
    ("ref", "sha"),
    [
        ("HEAD", "4931711ef6661f45f9fbba6780200d36d735dde8"),
        ("0.9.1", "38e50c71130fcf56655685f0992f4f125bef3879"),
    ],
)
async def test_what_github_answered_is_understood(forge: Forge, ref: str, sha: str) -> None:
    path, page = recorded(ref)
    forge.pages[path] = page
    name = "jupyterhub/zero-to-jupyterhub-k8s"
    async with running_resolver(forge, github_url="https://github.com") as resolver:
        repo = await resolver.repo("gh", f"{name}/{ref}")
    assert repo.model_dump(
        exclude={
            "v",
            "quota",
            "is_own",
            "config",
            "resource_class",
            "notice",
            "visibility",
            "content_provider",
            "reached_url",
        }
    ) == {
        "provider": "gh",
        "spec": f"{name}/{ref}",
        "repo_url": f"https://github.com/{name}",
        "ref": sha,
        "resolved_spec": f"{name}/{sha}",
        "ref_url": f"https://github.com/{name}/tree/{sha}",
        "slug": "jupyterhub-zero-to-jupyterhub-k8s",
        "display_name": name,
        "immutable_spec": False,
        "ignores_case": True,
    }
    remaining = json.loads(json.dumps(dict(page.headers)))["X-Ratelimit-Remaining"]
    assert REGISTRY.get_sample_value("binderhub_github_rate_limit_remaining") == float(remaining)


@pytest.mark.parametrize("ref", ["HEAD", "0.9.1"])
def test_the_forge_answers_in_the_recorded_shape(forge: Forge, ref: str) -> None:
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items() if key not in {"files", "verification"}}
        return type(value).__name__ if not isinstance(value, list) else [shape(item) for item in value[:1]]

    sha = forge.create_repo("jupyterhub", "zero-to-jupyterhub-k8s", {"a": "1"})
    _, truth = recorded(ref)
    page = forge.commit_reply("jupyterhub", "zero-to-jupyterhub-k8s", "HEAD", "")
    assert isinstance(page.body, bytes)
    assert isinstance(truth.body, bytes)
    assert shape(json.loads(page.body)) == shape(json.loads(truth.body))
    assert set(page.headers) == set(truth.headers)
    assert json.loads(page.body)["sha"] == sha


async def test_branches_tags_and_shas(forge: Forge) -> None:
    old = forge.create_repo("Org", "Repo.py", {"a": "1"})
    new = forge.commit("Org", "Repo.py", {"a": "2"}, branch="feature/x y#1".replace(" ", "-"))
    forge.tag("Org", "Repo.py", "v1", old, annotated=True)
    expected = {"HEAD": old, "main": old, "feature/x-y%231": new, "v1": old, old: old, old.upper(): old}
    async with running_resolver(forge) as resolver:
        shas = {ref: (await resolver.repo("gh", f"Org/Repo.py/{ref}")).ref for ref in expected}
        by_sha = await resolver.repo("gh", f"Org/Repo.py.git/{old}/")
    assert shas == expected
    assert by_sha.immutable_spec
    assert by_sha.repo_url == f"{forge.url}/Org/Repo.py"


@pytest.mark.parametrize("missing", ["master", "main"])
async def test_a_default_branch_that_was_renamed_becomes_head_at_once(forge: Forge, missing: str) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"}, branch="trunk")
    async with running_resolver(forge) as resolver:
        repo = await resolver.repo("gh", f"org/repo/{missing}")
        other = await resolver.problem("gh", "org/repo/develop")
        nowhere = await resolver.problem("gh", f"org/nothing/{missing}")
    assert repo.ref == sha
    assert repo.notice is not None
    assert f"has no branch {missing}" in repo.notice
    assert "HEAD" in repo.notice
    assert other.code == nowhere.code == "ref_not_found"
    assert other.detail == "There is no branch, tag or commit develop in org/repo on GitHub."
    assert nowhere.detail == f"There is no public repository org/nothing on GitHub, or no {missing} in it."


async def test_an_answer_is_asked_again_with_its_etag(forge: Forge) -> None:
    first = forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge) as resolver:
        assert (await resolver.repo("gh", "org/repo/HEAD")).ref == first
        assert (await resolver.repo("gh", "org/repo/HEAD")).ref == first
        second = forge.commit("org", "repo", {"a": "2"})
        assert (await resolver.repo("gh", "org/repo/HEAD")).ref == second
    etags = [request.headers.get("if-none-match") for request in forge.api_requests]
    assert etags[0] is None
    assert etags[1] == etags[2]
    assert etags[1] is not None


async def test_not_found_is_remembered_for_a_moment_only(forge: Forge) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge) as resolver:
        for _ in range(3):
            await resolver.problem("gh", "org/repo/new")
        assert len(forge.api_requests) == 1
    async with running_resolver(forge, not_found_cache_seconds=0.0) as resolver:
        await resolver.problem("gh", "org/repo/new")
        sha = forge.commit("org", "repo", {"a": "2"}, branch="new")
        assert (await resolver.repo("gh", "org/repo/new")).ref == sha


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Fault(rate_limited=True), 600),
        (Fault(status=429, headers={"Retry-After": "45"}), 45),
        (Fault(status=403, headers={"Retry-After": "45"}), 45),
        (Fault(status=429), 60),
        (Fault(status=429, headers={"Retry-After": "\u00b2", "X-RateLimit-Remaining": "\u00b9"}), 60),
        (Fault(status=403, body=b'{"message": "You have exceeded a secondary rate limit."}'), 60),
    ],
)
async def test_github_s_limits_are_said_with_the_time_to_wait(forge: Forge, fault: Fault, seconds: float) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.rate_reset = int(time.time()) + 600
    forge.api_fault = fault
    async with running_resolver(forge) as resolver:
        for _ in range(2):
            problem = await resolver.problem("gh", "org/repo/main")
            assert (problem.code, problem.whose_move, problem.can_retry) == ("rate_limited", "upstream", True)
            assert problem.retry_after_seconds == pytest.approx(seconds, abs=15)
            minutes = 10 if seconds == 600 else 1
            assert f"GitHub rate limit exceeded. Try again in {minutes} minute" in problem.detail
    assert len(forge.api_requests) == 1


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (Fault(status=500), "provider_unavailable", "GitHub answered 500."),
        (Fault(status=503), "provider_unavailable", "GitHub answered 503."),
        (Fault(status=403), "provider_unavailable", "GitHub answered 403."),
        (Fault(status=401), "provider_unavailable", "GitHub does not accept the credentials of this Bindery."),
        (Fault(status=451), "ref_not_found", "GitHub has closed access to org/repo."),
        (Fault(status=403, body=b'{"message": "x", "block": {}}'), "ref_not_found", "GitHub has closed access to"),
        (Fault(status=200, body=b"[]"), "ref_not_found", "HEAD is not the name of a branch, tag or commit"),
        (Fault(status=200, body=b'{"sha": "abc"}'), "ref_not_found", "HEAD is not the name of a branch"),
        (Fault(hold=threading.Event()), "provider_unavailable", "GitHub does not answer."),
    ],
)
async def test_what_else_github_may_answer(forge: Forge, fault: Fault, code: str, says: str) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.api_fault = fault
    settings = {"forge_timeout_seconds": fault.timeout_seconds, "github_access_token": "of-the-operator"}
    async with running_resolver(forge, **settings) as resolver:
        problem = await resolver.problem("gh", "org/repo/HEAD")
    assert problem.code == code
    assert says in problem.detail


async def test_a_github_that_is_away_is_not_a_missing_repository(forge: Forge) -> None:
    async with running_resolver(forge, github_api_url="http://127.0.0.1:1") as resolver:
        problem = await resolver.problem("gh", "org/repo/main")
    assert problem.code == "provider_unavailable"


async def test_an_empty_repository_is_said(forge: Forge) -> None:
    forge.create_repo("org", "empty", {})
    async with running_resolver(forge) as resolver:
        problem = await resolver.problem("gh", "org/empty/HEAD")
    assert problem.detail == "The repository org/empty on GitHub is empty."


async def test_a_renamed_repository_is_followed_within_the_api(forge: Forge) -> None:
    sha = forge.create_repo("org", "new", {"a": "1"})
    forge.pages["/api/repos/org/old/commits/HEAD"] = Page(301, {"Location": "/api/repos/org/new/commits/HEAD"})
    async with running_resolver(forge) as resolver:
        assert (await resolver.repo("gh", "org/old/HEAD")).ref == sha


@pytest.mark.parametrize(
    ("settings", "authorization"),
    [
        ({"github_access_token": "abc"}, "token abc"),
        ({"github_client_id": "id", "github_client_secret": "key"}, "Basic aWQ6a2V5"),
        ({}, None),
    ],
)
async def test_the_operators_credentials_are_sent(
    forge: Forge, settings: dict[str, str], authorization: str | None
) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge, **settings) as resolver:
        await resolver.repo("gh", "org/repo/HEAD")
    assert forge.api_requests[0].headers.get("authorization") == authorization


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("org", 'Spec is not of the form "user/repo/ref", provided: "org"'),
        ("org/repo", 'Did you mean "org/repo/HEAD"?'),
        ("org/repo/", 'Did you mean "org/repo/HEAD"?'),
        ("org/repo/..", "can't be the name of a branch, tag or commit"),
        ("org/repo/../../../user", "can't be the name of a branch, tag or commit"),
        ("org/repo/%2e%2e/x", "can't be the name of a branch, tag or commit"),
        ("org/repo/a%0Ab", "can't be the name of a branch, tag or commit"),
        ("org/repo/--upload-pack=touch%20x", "can't be the name of a branch, tag or commit"),
        ("../repo/main", "'..' can't be the name of a user or repository"),
        ("org/../main", "'..' can't be the name of a user or repository"),
        ("org/.git/main", "'' can't be the name of a user or repository"),
        ("o%2Frg/repo/main", "can't be the name of a user or repository"),
        ("org/re?po/main", "can't be the name of a user or repository"),
    ],
)
async def test_bad_links_are_refused_before_github_is_asked(forge: Forge, spec: str, says: str) -> None:
    async with running_resolver(forge) as resolver:
        problem = await resolver.problem("gh", spec)
    assert problem.code == "bad_spec"
    assert says in problem.detail
    assert forge.requests == []


async def test_the_ref_can_not_leave_the_path_that_it_belongs_to(forge: Forge) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge) as resolver:
        await resolver.problem("gh", "org/repo/a?b=c")
        await resolver.problem("gh", "org/repo/a%3Fb%23c%25")
    assert [request.path.rpartition("/")[2] for request in forge.api_requests] == ["a%3Fb%3Dc", "a%3Fb%23c%25"]


async def test_a_renamed_repository_is_known_by_its_new_name_too(forge: Forge) -> None:
    sha = forge.create_repo("evil", "repo", {"a": "1"})
    redirect = Page(301, {"Location": f"{forge.api_url}/repos/evil/repo/commits/HEAD"})
    forge.pages["/api/repos/Old/name/commits/HEAD"] = redirect
    async with running_resolver(forge) as resolver:
        for _ in range(2):  # the second time, GitHub says that nothing has changed
            repo = await resolver.repo("gh", "Old/name/HEAD")
            assert (repo.ref, repo.repo_url) == (sha, f"{forge.url}/Old/name")
            assert repo.reached_url == f"{forge.url}/evil/repo"
        assert (await resolver.repo("gh", "evil/repo.git/HEAD")).reached_url is None
    for settings in ({"banned_specs": {"gh": ["evil/"]}}, {"allowed_specs": {"gh": ["old/"]}}):
        async with running_resolver(forge, **settings) as resolver:
            assert (await resolver.problem("gh", "Old/name/HEAD")).code == "banned"
    allowed = {"gh": ["old/", "evil/"], "git": ["nothing"]}
    async with running_resolver(forge, allowed_specs=allowed) as resolver:
        await resolver.repo("gh", "Old/name/HEAD")


async def test_github_is_asked_through_the_outbound_proxy(forge: Forge) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    with ForwardProxy({"api.github.test": ("127.0.0.1", forge.port)}, login=("bindery", "hunter2")) as proxy:
        settings: dict[str, Any] = {"github_url": "https://github.test", "github_api_url": "http://api.github.test/api"}
        async with running_resolver(outbound_proxy=proxy.url, **settings) as resolver:
            assert (await resolver.repo("gh", "org/repo/HEAD")).ref == sha
        assert proxy.requests == ["GET http://api.github.test/api/repos/org/repo/commits/HEAD"]
        assert "proxy-authorization" not in forge.requests[0].headers
        async with running_resolver(
            outbound_proxy=proxy.url, outbound_proxy_except="github.test", **settings
        ) as resolver:
            assert (await resolver.problem("gh", "org/repo/HEAD")).code == "provider_unavailable"  # no such host here
        assert len(proxy.requests) == 1


async def test_a_proxy_of_the_environment_is_not_taken_silently(
    forge: Forge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://user:hunter2@127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with running_resolver(forge) as resolver:
        await resolver.repo("gh", "org/repo/HEAD")
    output = "".join(capsys.readouterr())
    assert "proxy_of_environment_not_used" in output
    assert "BINDERY_OUTBOUND_PROXY" in output
    assert "hunter2" not in output

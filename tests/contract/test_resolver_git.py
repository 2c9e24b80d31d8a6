"""Provider `git` of the resolver, against real git servers."""

import os
import threading
from urllib.parse import quote

import pytest

from tests.support.forge import Fault, Forge, Page
from tests.support.forward_proxy import ForwardProxy
from tests.support.in_process_resolver import running_resolver

SHA = "0123456789abcdef0123456789abcdef01234567"


def spec(url: str, ref: str) -> str:
    return f"{quote(url, safe='')}/{quote(ref, safe='')}"


async def test_every_field_is_binderhubs(forge: Forge) -> None:
    sha = forge.create_repo("git", "repo", {"a": "1"})
    url = f"{forge.url}/git/repo"
    async with running_resolver() as resolver:
        repo = await resolver.repo("git", spec(url, "HEAD"))
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
        "provider": "git",
        "spec": spec(url, "HEAD"),
        "repo_url": url,
        "ref": sha,
        "resolved_spec": f"{quote(url, safe='')}/{sha}",
        "ref_url": url,
        "slug": url,
        "display_name": url,
        "immutable_spec": False,
        "ignores_case": False,
    }


async def test_names_are_matched_whole(forge: Forge) -> None:
    old = forge.create_repo("git", "repo", {"a": "1"}, branch="trunk")
    other = forge.commit("git", "repo", {"a": "2"}, branch="x/main")
    tagged = forge.commit("git", "repo", {"a": "3"}, branch="trunk")
    forge.tag("git", "repo", "light", old)
    forge.tag("git", "repo", "annotated", tagged, annotated=True)
    forge.tag("git", "repo", "trunk", old)
    forge.ref("git", "repo", "refs/pull/7/head", other)
    url = f"{forge.url}/git/repo"
    expected = {
        "HEAD": tagged,
        "trunk": tagged,
        "refs/tags/trunk": old,
        "x/main": other,
        "light": old,
        "annotated": tagged,
        "refs/tags/annotated": tagged,
        "refs/pull/7/head": other,
        "pull/7/head": other,
        "refs/heads/x/main": other,
    }
    async with running_resolver() as resolver:
        shas = {ref: (await resolver.repo("git", spec(url, ref))).ref for ref in expected}
        assert shas == expected
        for missing in ("main", "head", "7/head", "tru*", "tags/nothing"):
            problem = await resolver.problem("git", spec(url, missing))
            assert (problem.code, problem.whose_move) == ("ref_not_found", "user")
            assert problem.detail == f"There is no branch, tag or commit {missing} in {url}."


@pytest.mark.parametrize("sha", [SHA, "0123456789abcdef" * 4])
async def test_a_full_sha_needs_no_request_and_never_expires(forge: Forge, sha: str) -> None:
    url = f"{forge.url}/git/repo"
    async with running_resolver() as resolver:
        repo = await resolver.repo("git", spec(url, sha.upper()))
        assert (repo.ref, repo.immutable_spec) == (sha, True)
        assert forge.requests == []
        longer = await resolver.problem("git", spec(url, sha + "0"))
    assert longer.code == "ref_not_found"


@pytest.mark.parametrize("way", ["smart", "dumb"])
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
async def test_every_ref_that_git_allows_is_found(forge: Forge, way: str, object_format: str) -> None:
    sha = forge.create_repo("git", "repo", {"a": "1"}, object_format=object_format)
    names = [
        "-u", "--upload-pack=x", "feature/of/mine", "#12", "100%", "a&b=c;d", "it's", '"quoted"', "$(x)", "`x`", "{a}",
        "@me", "a@b", "v1.0+build", "größe", "数据", "a\u00a0b", "\U0001f469\u200d\U0001f52c", "%2F", "<b>", "a|b", "!",
        "HEAD/x",
    ]  # fmt: skip
    for name in names:
        forge.ref("git", "repo", f"refs/heads/{name}", sha)
    forge.ref("git", "repo", os.fsdecode(b"refs/heads/caf\xe9"), sha)
    url = f"{forge.url}/dumb/git/repo" if way == "dumb" else f"{forge.url}/git/repo"
    async with running_resolver() as resolver:
        for name in names:
            assert (await resolver.repo("git", spec(url, name))).ref == sha, name
        assert (await resolver.repo("git", f"{quote(url, safe='')}/caf%E9")).ref == sha
        missing = await resolver.problem("git", f"{quote(url, safe='')}/th%E9")
    assert missing.detail == f"There is no branch, tag or commit th? in {url}."


@pytest.mark.parametrize("way", ["smart", "dumb"])
async def test_what_has_nothing_to_start_from_is_told_from_a_typing_error(forge: Forge, way: str) -> None:
    forge.create_repo("git", "empty", {})
    forge.create_repo("git", "headless", {"a": "1"}, branch="trunk")
    forge.git("git", "headless", "symbolic-ref", "HEAD", "refs/heads/main")
    sha = forge.create_repo("git", "detached", {"a": "1"})
    forge.git("git", "detached", "update-ref", "--no-deref", "HEAD", sha)
    start = f"{forge.url}/dumb/git" if way == "dumb" else f"{forge.url}/git"
    async with running_resolver() as resolver:
        for ref in ("HEAD", "main"):
            empty = await resolver.problem("git", spec(f"{start}/empty", ref))
            assert (empty.code, empty.detail) == (
                "ref_not_found", f"{start}/empty is an empty repository: nothing has been committed to it."
            )  # fmt: skip
        headless = await resolver.problem("git", spec(f"{start}/headless", "HEAD"))
        assert (headless.code, headless.detail) == (
            "ref_not_found",
            f"{start}/headless has no default branch: its HEAD names one that is not there. Name a branch in the link, "
            "such as trunk.",
        )
        typo = await resolver.problem("git", spec(f"{start}/headless", "trunc"))
        assert typo.detail == f"There is no branch, tag or commit trunc in {start}/headless."
        assert (await resolver.repo("git", spec(f"{start}/headless", "trunk"))).ref
        assert (await resolver.repo("git", spec(f"{start}/detached", "HEAD"))).ref == sha


async def test_a_ref_may_hold_slashes_and_need_not_be_encoded(forge: Forge) -> None:
    sha = forge.create_repo("git", "repo", {"a": "1"}, branch="feature/of/mine")
    async with running_resolver() as resolver:
        repo = await resolver.repo("git", f"{quote(f'{forge.url}/git/repo', safe='')}/feature/of/mine/")
    assert repo.ref == sha


@pytest.mark.parametrize(
    ("url", "ref", "code", "says"),
    [
        ("--upload-pack=touch /tmp/x", "HEAD", "bad_spec", "A git URL can't begin with a dash"),
        ("https://example.org/x", "--upload-pack=touch /tmp/x", "bad_spec", "can't be the name of a branch, tag or"),
        ("https://example.org/x", "a..b", "bad_spec", "'a..b' can't be the name of a branch, tag or commit"),
        ("https://example.org/x", "a\nb", "bad_spec", "can't be the name of a branch, tag or commit"),
        ("https://example.org/x", "a\x00b", "bad_spec", "can't be the name of a branch, tag or commit"),
        ("https://example.org/x", "", "bad_spec", "https%3A%2F%2Fexample.org%2Fx/HEAD"),
        ("ftp://example.org/x", "HEAD", "bad_spec", "Unsupported git url ftp://example.org/x, protocol ftp not in"),
        ("ssh://example.org/x", "HEAD", "bad_spec", "Unsupported git url ssh://example.org/x, protocol ssh not in"),
        ("git://example.org/x", "HEAD", "bad_spec", "Unsupported git url git://example.org/x, protocol git not in"),
        ("git@example.org:a/b", "HEAD", "bad_spec", "Unsupported git url ssh://git@example.org/a/b, protocol ssh"),
        ("file:///etc", "HEAD", "bad_spec", "Unsupported git url file:///etc, protocol file not in http, https"),
        ("https://me:secret@example.org/x", "HEAD", "bad_spec", "must not hold a password"),
        ("https://ghp_secret@example.org/x", "HEAD", "bad_spec", "must not hold a password or a user name"),
        ("https://%61.example.org/x", "HEAD", "bad_spec", "names no host: that is an address, or a name of letters"),
        ("https://-a.example.org/x", "HEAD", "bad_spec", "A host or path of a git URL can't begin with a dash"),
        ("https://[fe80::1%25eth0]/x", SHA, "bad_spec", "names no host: that is an address, or a name of letters"),
        ("https://example.org/our/../x", SHA, "bad_spec", "read in several ways: write its path without .. and %2F"),
        ("https://example.org/our%2F..%2fx", SHA, "bad_spec", "read in several ways: write its path without .. and"),
        ("https://example.org/our/%2e./x", SHA, "bad_spec", "read in several ways: write its path without .. and"),
        ("http://10.0.0.1/x", "HEAD", "address_not_allowed", "10.0.0.1 may not be reached from here"),
        ("http://10.0.0.1/x", SHA, "address_not_allowed", "10.0.0.1 may not be reached from here"),
        ("http://169.254.169.254/x", "HEAD", "address_not_allowed", "not public but link-local"),
        ("http://[::ffff:10.0.0.1]/x", "HEAD", "address_not_allowed", "not public but private"),
    ],
)
async def test_bad_links_are_refused_with_a_sentence(url: str, ref: str, code: str, says: str) -> None:
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", spec(url, ref))
    assert problem.code == code
    assert says in problem.detail
    assert "secret@" not in problem.detail
    assert problem.phase == "resolving"
    assert not problem.can_retry


async def test_a_link_without_a_ref_tells_nobody_the_password_in_it() -> None:
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", f"https%3A%2F%2Fme%3A{'hunter2' * 40}%40example.org%2Fx")
    assert problem.detail.startswith("Spec is not of the form")
    assert 'provided: "https://me:[secret]@example.org/x"' in problem.detail
    assert "hunter2" not in problem.detail


async def test_a_link_without_a_ref_says_what_to_add() -> None:
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", "https%3A%2F%2Fexample.org%2Fx")
    assert problem.code == "bad_spec"
    assert "Spec is not of the form" in problem.detail
    assert "https%3A%2F%2Fexample.org%2Fx/HEAD" in problem.detail


async def test_loopback_is_refused_unless_an_operator_opens_it(forge: Forge) -> None:
    forge.create_repo("git", "repo", {"a": "1"})
    async with running_resolver(allowed_networks="") as resolver:
        for host in ("127.0.0.1", "localhost"):
            for ref in ("HEAD", SHA):
                problem = await resolver.problem("git", spec(f"http://{host}:{forge.port}/git/repo", ref))
                assert problem.code == "address_not_allowed"
                assert f"{host} may not be reached from here: its address is not public but loopback" in problem.detail
    assert forge.requests == []


async def test_a_repository_that_is_not_there(forge: Forge) -> None:
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", spec(f"{forge.url}/git/missing", "HEAD"))
    assert problem.code == "ref_not_found"
    assert f"There is no public git repository at {forge.url}/git/missing" in problem.detail


async def test_an_empty_repository_has_no_head(forge: Forge) -> None:
    forge.create_repo("git", "empty", {})
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", spec(f"{forge.url}/git/empty", "HEAD"))
    assert problem.code == "ref_not_found"


async def test_a_full_sha_is_not_taken_from_an_address_that_the_operator_refuses() -> None:
    async with running_resolver(refused_networks="127.0.0.0/9") as resolver:
        problem = await resolver.problem("git", spec("http://127.0.0.1:1/x", SHA))
    assert problem.code == "address_not_allowed"
    assert "127.0.0.1 may not be reached from here: its address is in a network that BINDERY_REFUSED" in problem.detail


async def test_the_url_that_a_repository_moved_to_is_reported(forge: Forge) -> None:
    sha = forge.create_repo("git", "new", {"a": "1"})
    target = f"{forge.url}/git/new.git/info/refs?service=git-upload-pack"
    forge.pages["/git/old/info/refs"] = Page(301, {"Location": target})
    forge.pages["/git/./new/info/refs"] = Page(301, {"Location": target})
    async with running_resolver() as resolver:
        resolved = await resolver.repo("git", spec(f"{forge.url}/git/old", "HEAD"))
        assert (resolved.ref, resolved.repo_url) == (sha, f"{forge.url}/git/old")
        assert resolved.reached_url == f"{forge.url}/git/new.git"
        same = await resolver.repo("git", spec(f"{forge.url}/git/new", "HEAD"))
        assert same.reached_url is None


async def test_a_redirect_into_the_cluster_is_refused(forge: Forge) -> None:
    forge.pages["/git/moved/info/refs"] = Page(302, {"Location": "http://192.168.0.1/info/refs"})
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", spec(f"{forge.url}/git/moved", "HEAD"))
    assert problem.code == "address_not_allowed"
    assert "192.168.0.1 may not be reached" in problem.detail


async def test_a_server_that_never_answers(forge: Forge) -> None:
    forge.git_fault = Fault(hold=threading.Event())
    async with running_resolver(git_timeout_seconds=0.3) as resolver:
        problem = await resolver.problem("git", spec(f"{forge.url}/git/repo", "HEAD"))
    assert (problem.code, problem.whose_move, problem.can_retry) == ("provider_unavailable", "upstream", True)


async def test_a_server_in_trouble_is_not_a_missing_repository(forge: Forge) -> None:
    forge.git_fault = Fault(status=500)
    async with running_resolver() as resolver:
        problem = await resolver.problem("git", spec(f"{forge.url}/git/repo", "HEAD"))
    assert problem.code == "provider_unavailable"


async def test_a_setting_allows_other_protocols(forge: Forge) -> None:
    sha = forge.create_repo("git", "repo", {"a": "1"})
    url = f"file://{forge.folder('git', 'repo')}"
    async with running_resolver(git_allowed_protocols="https, file") as resolver:
        assert (await resolver.repo("git", spec(url, "main"))).ref == sha
        problem = await resolver.problem("git", spec(f"{forge.url}/git/repo", "main"))
    assert "protocol http not in file, https" in problem.detail


async def test_a_repository_is_found_through_the_outbound_proxy_and_full_shas_need_no_look_up(forge: Forge) -> None:
    sha = forge.create_repo("git", "repo", {"a": "1"})
    with ForwardProxy({"forge.test": ("127.0.0.1", forge.port)}) as proxy:
        async with running_resolver(outbound_proxy=proxy.url, allowed_networks="") as resolver:
            assert (await resolver.repo("git", spec("http://forge.test/git/repo", "main"))).ref == sha
            assert (await resolver.repo("git", spec("http://no.such.host.test/git/repo", SHA))).ref == SHA
            private = await resolver.problem("git", spec("http://10.0.0.1/x", SHA))
            refusal = await resolver.problem("git", spec("https://inside.test/x", "main"))
    assert private.code == refusal.code == "address_not_allowed"
    assert "The outbound proxy of this Bindery does not let it reach inside.test" in refusal.detail
    assert proxy.refusals == ["CONNECT inside.test:443"]

"""Links that lead nowhere or somewhere forbidden, and requests that come from the wrong place."""

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.api_launches import ApiLaunch, builds_ended, git_spec
from tests.support.forge import Forge, Page
from tests.support.launching import Following
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def demo(forge: Forge) -> str:
    forge.create_repo("bad-input", "demo", {"README.md": "A demo.\n"})
    return f"{forge.url}/bad-input/demo"


def assert_refused(stack: Stack, spec: str, code: str, *sentences: str) -> None:
    """Check that both ways to launch refuse, with plain words and whose move it is, and that nothing was started."""
    before = builds_ended(stack)
    launch = ApiLaunch.begin(stack, spec)
    problem = launch.problem()
    assert (problem["code"], problem["whose_move"], problem["phase"]) == (code, "user", "resolving")
    failed = stack.build(f"git/{spec}").outcome()
    assert failed["phase"] == "failed"
    for words in sentences:
        assert words in problem["detail"]
        assert words in failed["message"]
    assert "Internal Server Error" not in failed["message"]
    assert launch.view["build_id"] is None
    assert builds_ended(stack) == before
    assert not stack.hub_users()


def test_a_repository_that_does_not_exist(stack: Stack, forge: Forge) -> None:
    url = f"{forge.url}/bad-input/no-such"
    assert_refused(stack, git_spec(url), "ref_not_found", f"There is no public git repository at {url}", "404")


def test_a_ref_that_does_not_exist(stack: Stack, demo: str) -> None:
    assert_refused(stack, git_spec(demo, "no-such"), "ref_not_found", "There is no branch, tag or commit no-such")


@pytest.mark.parametrize("ref", ["HEAD", "a" * 40])
@pytest.mark.parametrize(
    "url",
    ["ssh://git@127.0.0.1/a/b", "git@127.0.0.1:a/b", "git://127.0.0.1/a/b", "file:///etc", "ext::sh", "/etc"],
)
def test_a_scheme_that_is_not_allowed(stack: Stack, url: str, ref: str) -> None:
    launch = ApiLaunch.begin(stack, git_spec(url, ref))
    problem = launch.problem()
    assert (problem["code"], problem["whose_move"]) == ("bad_spec", "user")
    assert problem["detail"].startswith("Unsupported git url ")
    assert problem["detail"].endswith(" not in http, https.")
    assert stack.build(f"git/{git_spec(url, ref)}").outcome()["message"] == f"{problem['detail']}\n"


def test_an_option_in_the_place_of_a_url_or_a_ref(stack: Stack, demo: str, tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    option = f"--upload-pack=touch {trace}"
    for url, ref, sentence in (
        (option, "HEAD", "A git URL can't begin with a dash: '--upload-pack="),
        (option, "a" * 40, "A git URL can't begin with a dash: '--upload-pack="),
        ("ext::sh -c id", "HEAD", "'ext::sh -c id' is not a git URL."),
        (demo, option, "can't be the name of a branch, tag or commit"),
    ):
        assert_refused(stack, git_spec(url, ref), "bad_spec", sentence)

    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {trace}\n")
    script.chmod(0o755)
    assert_refused(
        stack, git_spec(demo, f"--upload-pack={script}"), "ref_not_found", "There is no branch, tag or commit"
    )
    assert not trace.exists()


@pytest.mark.parametrize("host", ["169.254.169.254", "10.1.2.3", "[fd00::1]", "[::ffff:10.1.2.3]"])
def test_an_address_that_is_not_public(stack: Stack, host: str) -> None:
    for ref in ("HEAD", "a" * 40):
        url = f"http://{host}/a/b"
        sentences = ("may not be reached from here: its address is not public", "BINDERY_ALLOWED_NETWORKS")
        assert_refused(stack, git_spec(url, ref), "address_not_allowed", *sentences)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://%61.example.org/a/b", "names no host: that is an address, or a name of letters, digits, dashes"),
        ("https://[fe80::1%25eth0]/a/b", "names no host: that is an address, or a name of letters, digits, dashes"),
        ("https://a-.example.org/a/b", "names no host: that is an address, or a name of letters, digits, dashes"),
        ("https://-a.example.org/a/b", "A host or path of a git URL can't begin with a dash"),
        (
            "https://someone@example.org/a/b",
            "must not hold a password or a user name: anyone who sees the link reads it",
        ),
        ("https://example.org/a/../b", "can be read in several ways: write its path without .. and %2F."),
    ],
)
def test_a_url_that_not_everybody_reads_alike(stack: Stack, url: str, sentence: str) -> None:
    for ref in ("HEAD", "a" * 40):
        assert_refused(stack, git_spec(url, ref), "bad_spec", sentence)


def test_a_redirect_to_an_address_that_is_not_public(stack: Stack, forge: Forge) -> None:
    forge.pages["/bad-input/moved/info/refs"] = Page(301, {"Location": "http://169.254.169.254/info/refs"})
    url = f"{forge.url}/bad-input/moved"
    assert_refused(stack, git_spec(url), "address_not_allowed", "169.254.169.254 may not be reached from here")


CROSS_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},  # a server of a user, on a port beside ours
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_another_web_site_asks_for_a_launch(stack: Stack, demo: str, headers: dict[str, str]) -> None:
    reply = stack.client.post(
        f"{stack.url}/api/v1/launches", json={"provider": "git", "spec": git_spec(demo)}, headers=headers
    )
    problem = reply.json()
    assert (reply.status_code, problem["code"], problem["whose_move"]) == (403, "cross_site", "user")
    assert "asked for this launch, and it is not among those that may" in problem["detail"]
    assert "BINDERY_ALLOWED_ORIGINS" in problem["detail"]
    following = stack.build(f"git/{git_spec(demo)}", **headers)
    failed = following.outcome()
    assert (following.status, failed["phase"], failed["status_code"]) == (200, "failed", 403)
    assert failed["message"] == f"{problem['detail']}\n"
    assert not stack.hub_users()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
    ],
)
def test_an_allowed_web_site_and_our_own_pages_may_ask(stack: Stack, headers: dict[str, str]) -> None:
    reply = stack.client.post(f"{stack.url}/api/v1/launches", json={"provider": "no", "spec": "a"}, headers=headers)
    assert reply.json()["code"] == "unknown_provider"
    failed = Following(f"{stack.url}/build/no/a", headers=headers).start().outcome()
    assert failed["message"] == "No provider found for prefix no\n"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "127.0.0.1.evil.example:{port}"]
)
def test_a_host_name_that_is_not_ours(stack: Stack, demo: str, host: str) -> None:
    headers = {"Host": host.format(port=stack.port)}
    spec = git_spec(demo)
    for reply in (
        stack.client.post(f"{stack.url}/api/v1/launches", json={"provider": "git", "spec": spec}, headers=headers),
        stack.client.get(f"{stack.url}/build/git/{spec}", headers={"Accept": "text/event-stream", **headers}),
        stack.client.get(f"{stack.url}/v2/git/{spec}", headers=headers),
    ):
        assert (reply.status_code, reply.headers["content-type"]) == (421, "application/problem+json")
        assert reply.json()["code"] == "unknown_host"
        assert f"does not answer to the name {headers['Host']!r}" in reply.json()["detail"]
    assert not stack.hub_users()


def test_our_own_names(stack: Stack) -> None:
    for name in ("127.0.0.1", "localhost"):
        reply = stack.client.get(f"{stack.url}/api/repoproviders", headers={"Host": f"{name}:{stack.port}"})
        assert {"git", "gh"} <= {provider["id"] for provider in reply.json()}


def test_the_spec_is_read_from_the_raw_path(stack: Stack, forge: Forge) -> None:
    """A ref with a slash may be written with one or percent-encoded; the URL's own slashes are encoded."""
    sha = forge.create_repo("bad-input", "slashes", {"a": "a"})
    forge.ref("bad-input", "slashes", "refs/heads/feature/one", sha)
    quoted = quote(f"{forge.url}/bad-input/slashes", safe="")
    for ref in ("feature/one", "feature%2Fone"):
        ready = stack.build(f"git/{quoted}/{ref}").outcome()
        assert (ready["phase"], ready["image"].rpartition(":")[2]) == ("ready", sha)
        assert ready["binder_request"] == f"v2/git/{quoted}/{ref}"

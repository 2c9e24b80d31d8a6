"""Which git URLs are taken, and what relative ones mean."""

import pytest

from services.common.git.remote import git_url, is_full_sha
from services.common.git.urls import submodule_url, web_url
from services.common.models.errors import BinderyError

NO_HOSTS = (
    "%61.example.org", "example%2eorg", "example.org%00", "exa%6dple.org:8080", "[fe80::1%eth0]", "[fe80::1%25eth0]",
    "a-.example", "a.-b.example", "a..example", ".example", "example..", "a+b.example", "a*b.example", "a,b.example",
    "a$(b).example", "a'b", "a;b", "a&b", "a=b", "a!b", "a~b", "a" * 64, ".".join(["a" * 60] * 5), "1.2.3", "127.1",
    "1.2.3.4.5", "10.example.0",
)  # fmt: skip
SHA = "0123456789abcdef0123456789abcdef01234567"
LONG = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--upload-pack=touch /tmp/x", "can't begin with a dash"),
        ("-u", "can't begin with a dash"),
        ("https://-oProxyCommand=x/y", "can't begin with a dash"),
        ("ssh://-oProxyCommand=x/y", "not in http, https"),
        ("git://example.org/x", "Unsupported git url git://example.org/x, protocol git not in http, https"),
        ("git@github.com:org/repo", "Unsupported git url ssh://git@github.com/org/repo, protocol ssh not in"),
        ("file:///etc", "protocol file not in"),
        ("ext::sh -c x", "is not a git URL"),
        ("ext::x", "protocol ext not in"),
        ("/srv/repo", "protocol  not in"),
        ("https://user:hunter2@example.org/x", "must not hold a password"),
        ("https://user:hunter2@example.org/x y", "is not a git URL"),
        (
            "https://ghp_hunter2@example.org/x",
            "a user name: anyone who sees the link reads it, and can use it if it is a token",
        ),
        ("https://someone@bitbucket.org/x/y", "Leave out what stands before the @"),
        ("https://a@b@example.org/x", "must not hold a password or a user name"),
        ("https://@example.org/x", "must not hold a password or a user name"),
        ("https://example.org:99999/x", "is not a git URL"),
        ("https://example.org/x?y=z", "is not the URL of a git repository"),
        ("https:///x", "is not the URL of a git repository"),
        ("https://exa\tmple.org/x", "is not a git URL"),
        ("https://[::1/x", "is not a git URL"),
        (f"https://user:{'hunter2' * 40}@example.org:99999/x", "'https://user:[secret]@example.org:99999/x' is not"),
        (f"{'x' * 180}://user:{'hunter2' * 10}@example.org:99999/x", "…' is not a git URL"),
        ("http://0x7f.1/x", "names no host"),
        *((f"http://{host}/x", "names no host: that is an address, or a name of letters, digits") for host in NO_HOSTS),
    ],
)
def test_urls_that_git_must_not_see(text: str, says: str) -> None:
    with pytest.raises(BinderyError) as raised:
        git_url(text)
    assert raised.value.code == "bad_spec"
    assert says in raised.value.detail
    assert "hunter2" not in raised.value.detail


def test_a_setting_allows_other_protocols() -> None:
    allowed = frozenset({"git", "ssh"})
    assert git_url("git@example.org:org/repo", allowed) == "ssh://git@example.org/org/repo"
    assert git_url("git://example.org/x", allowed) == "git://example.org/x"
    with pytest.raises(BinderyError, match="begin with a dash"):
        git_url("ssh://-oProxyCommand=x/y", allowed)
    for host in ("a$(x)b", "-a", "[fe80::1%eth0]", "a%62", "a-"):
        with pytest.raises(BinderyError, match=r"names no host|can't begin with a dash"):
            git_url(f"ssh://{host}/y", allowed)
    assert git_url("ssh://git@[::1]:22/y", allowed) == "ssh://git@[::1]:22/y"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("../lib", "https://example.org/org/lib"),
        ("../../other/lib.git", "https://example.org/other/lib.git"),
        ("./inner", "https://example.org/org/repo/inner"),
        ("../../../../x", None),
        ("../a/../../../b", None),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
        ("https://someone@elsewhere.example/x", "https://elsewhere.example/x"),
        ("https://someone:pass@elsewhere.example/x", "https://someone:pass@elsewhere.example/x"),
        ("ssh://git@elsewhere.example/x", "ssh://git@elsewhere.example/x"),
    ],
)
def test_relative_submodules_stay_on_the_host(url: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(BinderyError):
            submodule_url("https://example.org/org/repo", url)
    else:
        assert submodule_url("https://example.org/org/repo", url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("git@example.org:org/repo.git", "https://example.org/org/repo.git"),
        ("gitolite@example.org:/srv/repo", "https://example.org/srv/repo"),
        ("example.org:org/repo", "https://example.org/org/repo"),
        ("ssh://git@example.org:2222/org/repo", "https://example.org/org/repo"),
        ("git+ssh://git@example.org/org/repo", "https://example.org/org/repo"),
        ("ssh://git@[2001:db8::1]:22/org/repo", "https://[2001:db8::1]/org/repo"),
        ("git://example.org/org/repo", "https://example.org/org/repo"),
        ("ssh://git@example.org:port/x", None),
        ("https://example.org/org/repo", None),
        ("file:///srv/repo", None),
        ("ext::sh -c x", None),
        ("localhost:x", None),
        ("/srv/repo", None),
        ("", None),
    ],
)
def test_the_https_address_of_a_repository_has_the_same_host_and_path(url: str, expected: str | None) -> None:
    assert web_url(url) == expected


@pytest.mark.parametrize(
    ("ref", "full"),
    [(SHA, True), (SHA.upper(), True), (LONG, True), (SHA + "0", False), (SHA[:39], False), (SHA + "\n", False)],
)
def test_a_full_sha_is_forty_hex_digits_or_sixty_four_and_nothing_else(ref: str, full: bool) -> None:
    assert is_full_sha(ref) is full

"""Addresses of repositories on GitHub and of their pages, and what they are read as."""

import pytest

from tests.unit.gateway.launches.addresses.reading import links, refusal

GITHUB = "https://github.com/ann/notes"
SHA = "8c2f6a1d0b9e47355f6e0d1c2b3a49586f7e0d1c"


@pytest.mark.parametrize(
    "text",
    [
        "ann/notes", "ann/notes.git", "ann/notes/", GITHUB, f"{GITHUB}/", f"{GITHUB}.git", f"  {GITHUB}\n",
        f"{GITHUB}?tab=readme-ov-file#installation", f"{GITHUB}#readme", f"{GITHUB}/?tab=MIT-1-ov-file",
        "github.com/ann/notes", "www.github.com/ann/notes", "GitHub.com/ann/notes", "http://github.com:80/ann/notes",
        "https://github.com//ann//notes", "https:/github.com/ann/notes", "https%3A%2F%2Fgithub.com%2Fann%2Fnotes",
        "git@github.com:ann/notes.git", "ssh://git@github.com/ann/notes.git", "ssh://git@github.com:22/ann/notes",
        "git+ssh://git@github.com/ann/notes.git", "git+https://github.com/ann/notes", "git://github.com/ann/notes.git",
        f"git clone --depth 1 {GITHUB}.git notes", "gh repo clone ann/notes", "//github.com/ann/notes",
        "github.com:ann/notes.git", f"<{GITHUB}>", f'"{GITHUB}"',
        f"[our notes]({GITHUB})", f'<a href="{GITHUB}">notes</a>',
    ],
)  # fmt: skip
def test_a_repository_on_github_however_it_is_written(text: str) -> None:
    assert links(text) == ["v2/gh/ann/notes/HEAD"]
    assert links(text, "gh") == ["v2/gh/ann/notes/HEAD"]


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("tree/main?tab=readme-ov-file", "main"),
        ("tree/fix%23%25", "fix%23%25"),
        ("tree/%C3%BCbung", "%C3%BCbung"),
        ("tree/wip%2Fplots", "wip/plots"),
        ("tree/wip%2F", "wip"),
        ("tree/HEAD/src", "HEAD?urlpath=%2Flab%2Ftree%2Fsrc"),
        (f"tree/{SHA}/src/deep", f"{SHA}?urlpath=%2Flab%2Ftree%2Fsrc%2Fdeep"),
        ("tree/refs/heads/main", "main"),
        ("tree/refs/heads/-x", "refs/heads/-x"),
        ("tree/refs/tags/v1", "refs/tags/v1"),
        ("blob/main/why%3F%20%231.ipynb#L3-L9", "main?urlpath=%2Fdoc%2Ftree%2Fwhy%253F%2520%25231.ipynb"),
        ("blob/main/plot.ipynb?plain=1", "main?urlpath=%2Fdoc%2Ftree%2Fplot.ipynb"),
        (f"commit/{SHA}", SHA),
        ("commit/8c2f6a1#diff-1", "8c2f6a1"),
        ("commits/main", "main"),
        ("pull/31", "refs/pull/31/head"),
        ("pull/31/files#diff-0", "refs/pull/31/head"),
        ("pull/31.diff", "refs/pull/31/head"),
        (f"pull/31/commits/{SHA}", SHA),
        (f"pull/31/files/{SHA[::-1]}..{SHA}#diff-0", SHA),
        (f"commit/{SHA}.patch", SHA),
        ("releases/tag/v2.0", "v2.0"),
        ("releases/tag/lectures%2F3", "lectures/3"),
        ("releases/tag/lectures/3", "lectures/3"),
        ("releases/download/v2.0/data.zip", "v2.0"),
        ("archive/refs/heads/wip/plots.zip", "wip/plots"),
        ("archive/refs/tags/v2.0.tar.gz", "v2.0"),
    ],
)
def test_a_page_on_github_names_its_ref_and_its_file(page: str, link: str) -> None:
    assert links(f"{GITHUB}/{page}") == [f"v2/gh/ann/notes/{link}"]
    assert links(f"ann/notes/{page}", "gh") == [f"v2/gh/ann/notes/{link}"]


def test_a_page_that_does_not_say_where_the_branch_ends_has_every_reading_the_longest_first() -> None:
    assert links(f"{GITHUB}/tree/wip/of/me?tab=x#y") == [
        "v2/gh/ann/notes/wip/of/me",
        "v2/gh/ann/notes/wip/of?urlpath=%2Flab%2Ftree%2Fme",
        "v2/gh/ann/notes/wip?urlpath=%2Flab%2Ftree%2Fof%2Fme",
    ]
    assert links(f"{GITHUB}/blob/wip/of/me.ipynb") == [
        "v2/gh/ann/notes/wip/of?urlpath=%2Fdoc%2Ftree%2Fme.ipynb",
        "v2/gh/ann/notes/wip?urlpath=%2Fdoc%2Ftree%2Fof%2Fme.ipynb",
    ]
    assert links(f"{GITHUB}/tree/refs/heads/wip/me") == [
        "v2/gh/ann/notes/wip/me",
        "v2/gh/ann/notes/wip?urlpath=%2Flab%2Ftree%2Fme",
    ]


def test_a_path_of_many_parts_has_a_bounded_number_of_readings() -> None:
    candidates = links(f"{GITHUB}/tree/{'/'.join(['a'] * 500)}")
    assert len(candidates) == 32
    assert candidates[-1].startswith("v2/gh/ann/notes/a?urlpath=")


@pytest.mark.parametrize(
    "page",
    ["issues", "issues/7", "wiki", "wiki/Home", "actions", "actions/runs/12/job/9", "settings", "settings/pages",
     "releases", "releases/latest", "tags", "branches", "pulls", "pulls?q=is%3Apr", "discussions/4", "projects",
     "security", "pulse", "graphs/contributors", "compare/main...wip", "network/dependencies", "stargazers", "pull",
     "pull/x", "pull/new/wip", "tree", "blob", "commit", "commit/main", "foo", "foo/bar"],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["", "gh", "git"])
def test_a_page_that_shows_no_ref_is_refused_with_a_sentence(page: str, provider: str) -> None:
    error = refusal(f"{GITHUB}/{page}", provider)
    assert error.code == "bad_spec"
    assert "is a page of ann/notes on GitHub that shows none of its branches" in error.detail


@pytest.mark.parametrize(
    "address",
    ["", "ann", "settings/profile", "orgs/ann/repositories", "topics/jupyter", "search?q=x", "marketplace/x",
     "sponsors/ann", "users/ann/projects", "?q=x"],
)  # fmt: skip
def test_what_is_no_repository_on_github_is_refused_with_a_sentence(address: str) -> None:
    error = refusal(f"https://github.com/{address}")
    assert error.code == "bad_spec"
    assert "is not the address of a repository on GitHub" in error.detail


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://ghp_abcdefghijklmnopqrstuvwx@github.com/ann/notes", "must not hold a password or a user name"),
        ("https://ann:hunter2@git.example.org/notes.git", "must not hold a password or a user name"),
        ("ssh://git:hunter2@github.com/ann/notes", "must not hold a password or a user name"),
        ("https://[::1/ann/notes", "is not an address"),
        ("https://github.com:port/ann/notes", "is not an address"),
        ("https://", "is not an address"),
        ("https://git.example.org/?p=notes.git;a=summary", "is not the address of a repository"),
        ("ftp://example.org/ann/notes", "and 'ftp://example.org/ann/notes' does not"),
        ("/home/ann/notes", "and '/home/ann/notes' does not"),
        ("./notes", "and './notes' does not"),
        ("ann/notes:wip", "and 'ann/notes:wip' does not"),
        ("git@git.example.org:2222/ann/notes", "and 'git@git.example.org:2222/ann/notes' does not"),
        ("https://github.com/ann/no tes", "is not the address of a repository on GitHub"),
        ("https://mybinder.org/v2/git/https%3A%2F%2Fann:hunter2%40x.example%2Fa/HEAD", "must not hold a password"),
        ("one two", "looks like binder-examples/requirements or https://github.com/binder-examples/requirements, and"),
        ("x" * 5000, "is not an address"),
    ],
)
def test_what_can_not_be_read_is_refused_with_a_sentence(text: str, says: str) -> None:
    error = refusal(text)
    assert error.code == "bad_spec"
    assert says in error.detail
    assert "hunter2" not in error.detail
    assert "ghp_" not in error.detail


def test_a_text_without_a_host_is_no_url_of_git() -> None:
    assert "is not the URL of a git repository" in refusal("notes", "git").detail
    assert links("file:///srv/notes.git", "git") == ["v2/git/file%3A%2F%2F%2Fsrv%2Fnotes.git/HEAD"]

"""Texts that people paste with an address in them: badges, commands, sentences."""

import pytest

from tests.unit.gateway.launches.addresses.reading import links, refusal

REPOSITORY = "https://github.com/ann/notes"
LAUNCH = "https://mybinder.org/v2/gh/ann/notes/HEAD"
BADGE = "https://mybinder.org/badge_logo.svg"


@pytest.mark.parametrize(
    "text",
    [
        f"({REPOSITORY})", f"[{REPOSITORY}]", f"<{REPOSITORY}|our notes>", f"**{REPOSITORY}**", f"“{REPOSITORY}”",
        f"«{REPOSITORY}»", f"`{REPOSITORY}`", f"'{REPOSITORY}'", f"{REPOSITORY}.", f"{REPOSITORY},", f"{REPOSITORY})",
        f"{REPOSITORY}\u200b", f"see {REPOSITORY}", f"Our notes ({REPOSITORY}), as told.", f"{REPOSITORY}\nThanks!",
        f"url = {REPOSITORY}.git", f"origin\t{REPOSITORY}.git (fetch)", f"pip install git+{REPOSITORY}",
        f"git submodule add {REPOSITORY}", f"git clone {REPOSITORY} && cd notes", f"{REPOSITORY} {REPOSITORY}",
        "git remote add origin git@github.com:ann/notes.git", f"x-client://open/{REPOSITORY}",
    ],
)  # fmt: skip
def test_the_address_in_a_text_is_found(text: str) -> None:
    assert links(text) == ["v2/gh/ann/notes/HEAD"]


@pytest.mark.parametrize(
    "text",
    [
        f"[![Binder]({BADGE})]({LAUNCH})",
        f'[![Binder]({BADGE})]({LAUNCH} "Try it")',
        f"Try it: [![Binder]({BADGE})]({LAUNCH}) or [read it]({REPOSITORY}).",
        f"[![Tests]({REPOSITORY}/actions/badge.svg)]({REPOSITORY}/actions) [![Binder]({BADGE})]({LAUNCH})",
        f"[Binder]: {LAUNCH}",
        f'<a href="{LAUNCH}"><img src="{BADGE}" alt="Binder"></a>',
        f"<a target=_blank href={LAUNCH}>Try it</a>",
        f"<a class='x' href='{LAUNCH}'>Try it</a>",
        f".. image:: {BADGE}\n   :target: {LAUNCH}\n   :alt: Binder",
        f"`Binder <{LAUNCH}>`_",
        f"image:{BADGE}[Binder,link={LAUNCH}]",
    ],
)
def test_a_badge_is_read_as_what_it_leads_to(text: str) -> None:
    assert links(text) == ["v2/gh/ann/notes/HEAD"]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (f"[![Binder]({BADGE})]({LAUNCH}?labpath=a(1).py)", "HEAD?urlpath=doc%2Ftree%2Fa%281%29.py"),
        (f'<a href="{LAUNCH}?x=1&amp;urlpath=lab"><img src="badge.svg"></a>', "HEAD?urlpath=lab"),
        (f"{LAUNCH}?urlpath=a.", "HEAD?urlpath=a."),
        (f"{REPOSITORY}/blob/main/a b (1).py", "main?urlpath=%2Fdoc%2Ftree%2Fa%2520b%2520%281%29.py"),
        (f"git clone -b wip/x {REPOSITORY}.git notes", "wip/x"),
        (f"git clone --depth 1 --branch=v1 {REPOSITORY}", "v1"),
        ("gh repo clone ann/notes -- --branch v1", "v1"),
        (f"git+{REPOSITORY}.git@wip/x#egg=notes", "wip/x"),
        (f"notes @ git+{REPOSITORY}@v1", "v1"),
        ("-e git+ssh://git@github.com/ann/notes.git@v1#egg=notes", "v1"),
        (f"{REPOSITORY}.git@v1", "v1"),
        ("ann/notes@v1", "v1"),
    ],
)
def test_what_the_text_says_of_ref_and_file_counts(text: str, link: str) -> None:
    assert links(text) == [f"v2/gh/ann/notes/{link}"]


def test_one_of_several_addresses_is_not_guessed() -> None:
    error = refusal(f"{REPOSITORY} or {REPOSITORY}-2, with {BADGE}")
    assert error.code == "bad_spec"
    assert f"Paste one of them: {REPOSITORY}, {REPOSITORY}-2." in error.detail


@pytest.mark.parametrize("text", ["see our notes", "ann@example.org", "hg+https://x.example/ann/notes", "[![a][b]][c]"])
def test_a_text_without_an_address_is_no_repository(text: str) -> None:
    assert "looks like binder-examples/requirements" in refusal(text).detail

"""What images and users are called: BinderHub's names, so that what it built and counted stays valid."""

import re

import pytest

from services.builder.image_names import image_name, safe_slug
from services.common.models import BuildInput
from services.launcher.names import is_user_of, repo_part, suffix, user_name

PREFIX = "gcr.io/p/r2d-"
SHA = "596b52f10efb0c9befc0c4ae850cc5175297d71c"
SECRET = "the secret of this installation, long enough"


def named(slug: str, ref: str, prefix: str = PREFIX) -> str:
    return image_name(prefix, BuildInput(repo_url="https://example.org/any", build_ref=ref, slug=slug))


@pytest.mark.parametrize(
    ("slug", "ref", "image"),
    [
        ("binder-examples-requirements", "50533eb470ee6c24e872043d30b2fee463d6943f",
         "gcr.io/p/r2d-binder-2dexamples-2drequirements-55ab5c:50533eb470ee6c24e872043d30b2fee463d6943f"),
        ("binderhub-ci-repos-cached-minimal-dockerfile", SHA,
         f"gcr.io/p/r2d-binderhub-2dci-2drepos-2dcached-2dminimal-2ddockerfile-c90b2b:{SHA}"),
        ("gitlab_-org-gitlab_-foss", "b3344b7f17c335a817c5d7608c5e47fd7cabc023",
         "gcr.io/p/r2d-gitlab-5f-2dorg-2dgitlab-5f-2dfoss-a53a80:b3344b7f17c335a817c5d7608c5e47fd7cabc023"),
        ("https://github.com/binderhub-ci-repos/cached-minimal-dockerfile", SHA,
         "gcr.io/p/r2d-https-3a-2f-2fgithub-2ecom-2fbinderhub-2dci-2drepos-2fcached-2dminimal-2ddockerfile-f3b374:"
         + SHA),
        ("zenodo-3242074", "3242074", "gcr.io/p/r2d-zenodo-2d3242074-b993d2:3242074"),
        ("figshare-9782777.v3", "9782777.v3", "gcr.io/p/r2d-figshare-2d9782777-2ev3-cf7eea:9782777.v3"),
        ("dataverse-dvn-2ftjclkp", "3035124.v3.0", "gcr.io/p/r2d-dataverse-2ddvn-2d2ftjclkp-a1371f:3035124.v3.0"),
        ("ckan-my-sample-dataset-001", "my-sample-dataset-001.v1700000000",
         "gcr.io/p/r2d-ckan-2dmy-2dsample-2ddataset-2d001-5226f9:my-sample-dataset-001.v1700000000"),
    ],
)  # fmt: skip
def test_images_are_named_as_binderhub_names_them(slug: str, ref: str, image: str) -> None:
    assert named(slug, ref) == image


def test_without_a_prefix() -> None:
    assert named("Rick-Morty", "1a2b3c4d5e6f", "") == "rick-2dmorty-a104b7:1a2b3c4d5e6f"


def test_underscores_of_the_prefix_and_the_tag_become_dashes() -> None:
    assert named("a", "v_1", "Host/My_Project/") == f"host/my-project/{safe_slug('a', 255 - 16)}:v-1"


def test_a_long_slug_is_cut_and_stays_its_own() -> None:
    first = safe_slug("x" * 300, 50)
    second = safe_slug("x" * 301, 50)
    assert len(first) == len(second) == 50
    assert first != second


def test_bytes_beyond_ascii_are_escaped_one_by_one() -> None:
    assert safe_slug("é", 50).startswith("-c3-a9-")


@pytest.mark.parametrize(
    ("repo_url", "part"),
    [
        ("https://github.com/minrk/binder-example.git", "minrk-binder-example"),
        ("https://github.com/Org/Repo", "org-repo"),
        ("git@example.org:team/notes.git", "team-notes"),
        ("https://example.org/2026/-/notes--1", "2026---notes--1"),
        ("https://example.org/exactly-thirty/two-characters-12", "exactly-thirty-two-characters-12"),
        ("https://example.org/a-very-long-organisation/and-a-very-long-repository", "a-very-long-org-long-repository"),
    ],
)
def test_users_are_named_as_binderhub_names_them(repo_url: str, part: str) -> None:
    name = user_name(SECRET, repo_url, "launch")
    assert name.startswith(f"{part}-")
    assert repo_part(repo_url) == part
    assert len(name) <= 41


@pytest.mark.parametrize(
    ("repo_url", "part"),
    [
        ("https://example.org/my repo/a%20b.git", "my-repo-a-b"),
        ("https://example.org/Team_A/data.set~1", "team-a-data-set-1"),
        ("https://example.org/100%/%zz", "100-zz"),
        ('https://example.org/it\'s/"so"/(or)/[that]', "it-s-so-or-that"),
        ("https://example.org/Übungen/日本語/K\u212a", "bungen-kk"),
        ("https://example.org/%C3%9Cbung", "bung"),
        ("https://example.org/日本語", "repo"),
        ("https://example.org/", "repo"),
        ("https://example.org/-/-", "repo"),
        ("https://example.org/-leading/and.trailing-/", "leading-and-trailing"),
        ("git@example.org:~team/notes$(HOME)", "team-notes-home"),
        ("10.5281/zenodo.3242074", "10-5281-zenodo-3242074"),
        ("https://example.org/a.very.long.organisation/and_a_very_long_repository", "a-very-long-org-long-repository"),
    ],
)
def test_other_characters_than_small_letters_digits_and_dashes_are_in_no_users_name(repo_url: str, part: str) -> None:
    assert repo_part(repo_url) == part
    name = user_name(SECRET, repo_url, "launch")
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*-[a-z2-7]{8}", name)
    assert len(name) <= 41


def test_a_users_name_is_known_by_its_suffix_however_its_first_part_was_made() -> None:
    proof = suffix(SECRET, "launch")
    assert is_user_of(f"team_a-data.set-{proof}", SECRET, "launch")
    assert is_user_of(user_name(SECRET, "https://example.org/team_a/data.set", "launch"), SECRET, "launch")
    assert not is_user_of(f"team_a-data.set-{proof}", SECRET, "launch", 1)
    assert not is_user_of(f"team_a-data.set-{proof}", SECRET + "!", "launch")
    assert not is_user_of(proof[::-1], SECRET, "launch")


def test_a_suffix_can_be_made_by_the_installation_alone_and_tells_launches_apart() -> None:
    mine = suffix(SECRET, "launch")
    assert mine == suffix(SECRET, "launch")
    assert len({mine, suffix(SECRET + "!", "launch"), suffix(SECRET, "other"), suffix(SECRET, "launch", 1)}) == 4
    assert len(mine) == 8
    assert set(mine) <= set("abcdefghijklmnopqrstuvwxyz0123456789")

"""What a repository says of its submodules: none of it is an option, and nothing is put where git would run it."""

from pathlib import Path

import pytest

from services.common.git.submodules import Submodule, place_of
from services.common.git.urls import git_url, submodule_url
from services.common.models.errors import BinderyError

SHA = "0" * 40


@pytest.mark.parametrize(
    "path",
    ["-c", "--upload-pack=x", "libs/--upload-pack=x", "", "a//b", "..", "../beside", "a/../../beside", "/etc", ".",
     ".git", ".git/hooks", ".GIT/hooks", ".git./hooks", ".git /hooks", "a/.git"],
)  # fmt: skip
def test_a_path_that_is_an_option_or_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    with pytest.raises(BinderyError, match=r"A submodule can't be put at ") as error:
        place_of(Submodule(path=path, url="https://example.org/a.git", sha=SHA), repository)
    assert error.value.code == "build_failed"
    assert list(tmp_path.rglob("*")) == [repository]


def test_a_path_of_the_repository_is_made_there_and_given_once(tmp_path: Path) -> None:
    submodule = Submodule(path="libs/a b", url="https://example.org/a.git", sha=SHA)
    place = place_of(submodule, tmp_path)
    assert place == tmp_path / "libs" / "a b"
    (place / "file").touch()
    with pytest.raises(BinderyError, match=r"A submodule can't be put at 'libs/a b': something is there\."):
        place_of(submodule, tmp_path)


@pytest.mark.parametrize(
    "url",
    ["--upload-pack=touch x", "-uhttps://example.org/a", "ext::sh -c x", "file:///etc", "../../../-x", "https://-x/a",
     "ssh://-oProxyCommand=x/a", "https://example.org/-x"],
)  # fmt: skip
def test_a_url_that_is_an_option_or_another_protocol_is_refused(url: str) -> None:
    with pytest.raises(BinderyError) as error:
        git_url(submodule_url("https://example.org/o/r", url))
    assert error.value.code == "bad_spec"

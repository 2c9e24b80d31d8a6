"""A project at the top is installed by repo2docker's rules, and says which Python it needs."""

import re
import tomllib
from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from tests.support.checkouts import PACKAGE, Files, plan_of

PROJECT = '[project]\nname = "a"\nversion = "1"\n'
BUILD_SYSTEM = '[build-system]\nrequires = ["setuptools"]\n'


@pytest.mark.parametrize(
    ("files", "sources"),
    [
        ({"pyproject.toml": PROJECT + BUILD_SYSTEM}, ["pyproject.toml"]),
        ({"pyproject.toml": PROJECT}, []),
        ({"pyproject.toml": BUILD_SYSTEM}, []),
        ({"pyproject.toml": BUILD_SYSTEM + '[tool.poetry]\nname = "a"\n'}, []),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}, []),
        ({"pyproject.toml": ""}, []),
        (PACKAGE, ["setup.py"]),
        ({**PACKAGE, "pyproject.toml": BUILD_SYSTEM}, ["setup.py"]),
        ({**PACKAGE, "requirements.txt": "six"}, ["requirements.txt", "setup.py"]),
        ({"requirements.txt": "six", "pyproject.toml": PROJECT + BUILD_SYSTEM}, ["requirements.txt", "pyproject.toml"]),
        ({"binder/setup.py": "", "binder/pyproject.toml": PROJECT + BUILD_SYSTEM}, []),
        ({"binder/postBuild": "", **PACKAGE}, []),
    ],
)
def test_a_project_is_installed_after_the_requirements(tmp_path: Path, files: Files, sources: list[str]) -> None:
    plan = plan_of(tmp_path, files)
    assert [install.source for install in plan.installs] == sources
    if sources and sources[-1] != "requirements.txt":
        assert plan.installs[-1].requirements == (tmp_path.resolve().as_uri(),)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            f'{PROJECT}dependencies = ["six"]\n',
            "The dependencies in pyproject.toml are not installed, as in repo2docker",
        ),
        (BUILD_SYSTEM, r"pyproject.toml is passed over, as in repo2docker: it has no \[project\]"),
    ],
)
def test_a_project_that_is_passed_over_is_told_why(tmp_path: Path, text: str, note: str) -> None:
    (told,) = plan_of(tmp_path, {"pyproject.toml": text}).notes
    assert re.match(note, told)


def test_broken_toml_is_the_authors_move(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^pyproject.toml is not valid TOML") as error:
        plan_of(tmp_path, {"pyproject.toml": "["})
    assert error.value.code == "build_failed"


def _requires(tmp_path: Path, wish: str, **files: str) -> str | None:
    return plan_of(tmp_path, {"pyproject.toml": f"{PROJECT}requires-python = {wish}\n", **files}).python


@pytest.mark.parametrize(
    ("wish", "specifiers"),
    [
        ('">=3.10"', ">=3.10"),
        ('" >= 3.9 , <4"', "<4,>=3.9"),
        ('"~=3.11"', "~=3.11"),
        ('"==3.*"', "==3.*"),
        ('""', None),
    ],
)
def test_requires_python_is_read_as_version_specifiers(tmp_path: Path, wish: str, specifiers: str | None) -> None:
    assert _requires(tmp_path, wish) == specifiers


@pytest.mark.parametrize(
    "wish",
    [
        '"--show-version"',
        '"--mirror=https://example.org"',
        '"/bin/sh"',
        '"../repo/python"',
        '"===/bin/sh"',
        '"===3.11"',
        '"python3.11"',
        '"^3.9"',
        '"3.11"',
        '">=3.9\\n--show-version"',
        "3.11",
        '[">=3.9"]',
    ],
)
def test_an_invalid_requires_python_is_refused_and_quoted(tmp_path: Path, wish: str) -> None:
    with pytest.raises(StepError, match=r'requires-python = .*; it must be text like ">=3.10" \(PEP 440\)$') as error:
        _requires(tmp_path, wish)
    assert error.value.code == "build_failed"
    assert repr(tomllib.loads(f"wish = {wish}")["wish"]) in error.value.message


def test_a_requires_python_of_kilobytes_is_quoted_in_part(tmp_path: Path) -> None:
    with pytest.raises(StepError) as error:
        _requires(tmp_path, f'"-{"x" * 9000}"')
    assert len(error.value.message) < 250


@pytest.mark.parametrize(
    ("wish", "runtime"), [('">=3.10"', "3.12"), ('">=3.12.4"', "3.12"), ('"==3.12.1"', "3.12"), ('"<4"', "3.12.1")]
)
def test_runtime_decides_among_the_versions_that_the_project_allows(tmp_path: Path, wish: str, runtime: str) -> None:
    assert _requires(tmp_path, wish, **{"runtime.txt": f"python-{runtime}"}) == runtime


@pytest.mark.parametrize(("wish", "runtime"), [('">=3.13"', "3.12"), ('">=3.12.4"', "3.12.3"), ('"==2.*"', "3.12")])
def test_runtime_and_project_that_contradict_each_other_are_refused(tmp_path: Path, wish: str, runtime: str) -> None:
    complaint = (
        rf"^runtime.txt says Python {runtime}, and pyproject.toml says requires-python = .*: change one of them$"
    )
    with pytest.raises(StepError, match=complaint):
        _requires(tmp_path, wish, **{"runtime.txt": f"python-{runtime}"})

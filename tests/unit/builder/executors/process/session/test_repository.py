"""What a repository asks for is read by repo2docker's rules, and what can't be honoured is refused by name."""

import tomllib
from pathlib import Path

import pytest

from services.builder.executors.process.session import repository
from services.builder.executors.process.session.errors import StepError


def _repo(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_an_empty_repository_asks_for_nothing(tmp_path: Path) -> None:
    assert repository.read(tmp_path) == repository.BuildPlan(python=None, packages=(), post_build=None, start=None)


def test_requirements_and_a_package_at_the_top_are_both_installed(tmp_path: Path) -> None:
    repo = _repo(tmp_path, {"requirements.txt": "six\n", "setup.py": "from setuptools import setup; setup()"})
    assert repository.read(repo).packages == ("--requirement", "requirements.txt", ".")


def test_a_project_with_a_build_system_is_installed_and_says_which_python(tmp_path: Path) -> None:
    text = '[build-system]\nrequires = []\n[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.10"\n'
    wishes = repository.read(_repo(tmp_path, {"pyproject.toml": text}))
    assert wishes.packages == (".",)
    assert wishes.python == ">=3.10"


def test_a_project_without_a_build_system_only_lists_dependencies(tmp_path: Path) -> None:
    repo = _repo(tmp_path, {"pyproject.toml": '[project]\nname = "a"\nversion = "1"\ndependencies = ["six"]\n'})
    assert repository.read(repo).packages == ("--requirement", "pyproject.toml")


def test_a_pyproject_of_tools_alone_asks_for_nothing(tmp_path: Path) -> None:
    assert repository.read(_repo(tmp_path, {"pyproject.toml": "[tool.ruff]\nline-length = 100\n"})).packages == ()


@pytest.mark.parametrize("name", ["binder", ".binder"])
def test_with_a_binder_folder_only_its_files_count(tmp_path: Path, name: str) -> None:
    files = {f"{name}/requirements.txt": "six", "requirements.txt": "no", "setup.py": "no", "Dockerfile": "FROM no"}
    assert repository.read(_repo(tmp_path, files)).packages == ("--requirement", f"{name}/requirements.txt")


def test_two_binder_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="only one of them can count") as error:
        repository.read(_repo(tmp_path, {"binder/requirements.txt": "", ".binder/requirements.txt": ""}))
    assert error.value.code == "build_failed"


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "environment.yml",
        "apt.txt",
        "install.R",
        "DESCRIPTION",
        "Project.toml",
        "REQUIRE",
        "default.nix",
        "Pipfile",
        "binder/Dockerfile",
    ],
)
def test_what_another_executor_can_build_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StepError, match=f"{name}: .*kubernetes and docker executors") as error:
        repository.read(_repo(tmp_path, {name: "x"}))
    assert error.value.code == "unsupported_repository"


def test_runtime_names_a_python(tmp_path: Path) -> None:
    assert repository.read(_repo(tmp_path, {"runtime.txt": "python-3.12\n"})).python == "3.12"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("python-2.7", "build_failed"),
        ("r-4.1-2023-01-01", "unsupported_repository"),
        ("python-3.12; rm -rf /", "build_failed"),
        ("--python=x", "build_failed"),
        ("python-3.\u0661\u0662", "build_failed"),
        ("python-3.12\n--mirror=https://example.org", "build_failed"),
    ],
)
def test_another_runtime_is_refused(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(StepError) as error:
        repository.read(_repo(tmp_path, {"runtime.txt": text}))
    assert error.value.code == code
    assert "runtime.txt" in error.value.message


@pytest.mark.parametrize(
    ("text", "complaint"), [("echo hello\n", "must begin with"), ("#!/bin/sh\r\necho\r\n", "Windows line endings")]
)
def test_a_script_that_cannot_be_run_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "postBuild").write_bytes(text.encode())
    with pytest.raises(StepError, match=complaint):
        repository.read(tmp_path)


def test_scripts_are_made_executable(tmp_path: Path) -> None:
    wishes = repository.read(_repo(tmp_path, {"postBuild": "#!/bin/sh\n", "start": "#!/bin/sh\n"}))
    assert wishes.post_build == tmp_path / "postBuild"
    assert wishes.start == tmp_path / "start"
    assert (tmp_path / "start").stat().st_mode & 0o100


def test_broken_toml_is_the_authors_move(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="not valid TOML") as error:
        repository.read(_repo(tmp_path, {"pyproject.toml": "["}))
    assert error.value.code == "build_failed"


def _requires(tmp_path: Path, wish: str) -> str | None:
    text = f'[project]\nname = "a"\nversion = "1"\nrequires-python = {wish}\n'
    return repository.read(_repo(tmp_path, {"pyproject.toml": text})).python


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


@pytest.mark.parametrize("folder", ["", "binder/"])
@pytest.mark.parametrize(
    "name", ["runtime.txt", "pyproject.toml", "requirements.txt", "setup.py", "postBuild", "start"]
)
def test_a_file_that_leads_out_of_the_repository_is_refused_and_left_as_it_is(
    tmp_path: Path, folder: str, name: str
) -> None:
    outside = tmp_path / "own"
    outside.write_text("#!/bin/sh\n")
    mode = outside.stat().st_mode
    place = tmp_path / "repo" / folder / name
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    with pytest.raises(
        StepError, match=f"^{folder}{name} is a link that leads out of the repository: put the file itself there$"
    ):
        repository.read(tmp_path / "repo")
    assert outside.stat().st_mode == mode


def test_a_link_inside_the_repository_is_followed(tmp_path: Path) -> None:
    _repo(tmp_path, {"scripts/post": "#!/bin/sh\n"})
    (tmp_path / "postBuild").symlink_to("scripts/post")
    assert repository.read(tmp_path).post_build == tmp_path / "postBuild"


def test_a_dangling_link_does_not_count_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "postBuild").symlink_to("postBuild")
    (tmp_path / "start").symlink_to("/nowhere/start")
    assert repository.read(tmp_path) == repository.BuildPlan(python=None, packages=(), post_build=None, start=None)


def test_no_name_of_a_repositorys_own_files_reaches_the_installer(tmp_path: Path) -> None:
    """What is installed is named by us: whatever else lies there, its name is no argument."""
    names = ["--index-url=x", "-e", "binder/-r", "binder/--requirement=x", "requirements.txt ", "postBuild;x"]
    files = {"binder/requirements.txt": "six", "binder/pyproject.toml": "[project]\ndependencies = ['--pre']\n"}
    wishes = repository.read(_repo(tmp_path, files | dict.fromkeys(names, "x")))
    assert wishes.packages == ("--requirement", "binder/requirements.txt", "--requirement", "binder/pyproject.toml")

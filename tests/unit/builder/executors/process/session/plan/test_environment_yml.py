"""environment.yml is read as data; what conda could not take is a sentence that names the key."""

from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.environment_yml import read_environment
from tests.support.checkouts import PACKAGE, Files, make_checkout, shown


def _read(folder: Path, text: str | bytes, name: str = "environment.yml", **files: str) -> CondaEnvironment:
    environment, _ = read_environment(Checkout.at(make_checkout(folder, {name: text, **files})), {})
    return environment


FULL = """
name: course
channels:
  - conda-forge
  - nodefaults
  - https://conda.example.org/lab
dependencies:
  - python=3.11
  - conda-forge::numpy >=2,<3
  -
  - r-ggplot2
  - pip
  - pip:
    - six==1.16.0  # exactly
    - --extra-index-url https://a.org/simple
variables:
  SEED: 42
  EMPTY:
prefix: /home/me/miniconda3/envs/course
"""


def test_everything_that_conda_reads_is_there(tmp_path: Path) -> None:
    environment = _read(tmp_path, FULL)
    assert environment.file == "environment.yml"
    assert environment.name == "course"
    assert environment.channels == ("conda-forge", "https://conda.example.org/lab")
    assert not environment.adds_default_channels
    assert environment.dependencies == ("python=3.11", "conda-forge::numpy >=2,<3", "r-ggplot2", "pip")
    assert environment.python == "3.11"
    assert environment.variables == {"SEED": "42", "EMPTY": ""}
    assert environment.uses_r
    assert environment.pip
    assert environment.pip.source == "pip: of environment.yml"
    assert environment.pip.requirements == ("--extra-index-url https://a.org/simple", "six==1.16.0")


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "name: a", "dependencies:\n", "channels:\ndependencies: []\n", "dependencies:\n- pip:\n"],
)
def test_an_environment_may_ask_for_nothing(tmp_path: Path, text: str) -> None:
    environment = _read(tmp_path, text)
    assert (environment.channels, environment.dependencies, environment.pip, environment.python) == ((), (), None, None)
    assert environment.adds_default_channels


@pytest.mark.parametrize(
    ("dependency", "python"),
    [
        ("python=3.12", "3.12"),
        ("python==3.12.4", "3.12"),
        ("python = 3.12.*", "3.12"),
        ("conda-forge::python=3.10", "3.10"),
        ("python=3", None),
        ("python>=3.9", None),
        ("python", None),
        ("python-dateutil=2.9", None),
        ("ipython=9.1", None),
    ],
)
def test_a_python_is_pinned_by_its_minor_version(tmp_path: Path, dependency: str, python: str | None) -> None:
    assert _read(tmp_path, f"dependencies:\n- {dependency}\n").python == python


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"environment.yml": "dependencies:\n- pip: ['-e .']\n", **PACKAGE}, ["-e REPO"]),
        (
            {"binder/environment.yml": "dependencies:\n- pip: ['-e ..', '-r p']\n", "binder/p": "six", **PACKAGE},
            ["-e REPO", "six"],
        ),
        ({"environment.yaml": "dependencies:\n- pip: [six]\n- pip: [numpy]\n"}, ["six", "numpy"]),
        ({"environment.yml": "dependencies:\n- uv: [six]\n", "environment.yaml": "["}, ["six"]),
        ({"environment.yml": "dependencies: # größe\r\n- pip: [six]\r\n".encode("utf-16")}, ["six"]),
    ],
)  # fmt: skip
def test_pip_is_called_in_the_folder_of_the_file(tmp_path: Path, files: Files, lines: list[str]) -> None:
    environment, _ = read_environment(Checkout.at(make_checkout(tmp_path, files)), {})
    assert environment.pip
    assert shown(environment.pip, tmp_path) == lines


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "environment.yml is not valid YAML: line 1, column 8: expected the node content"),
        ("a: b: c", "environment.yml is not valid YAML: line 1, column 5: mapping values are not allowed here"),
        ("\tname: a", "environment.yml is not valid YAML: line 1, column 1: found character"),
        ("name: 2024-99-99", "environment.yml is not valid YAML: month must be in 1..12"),
        ("name: \x07", "environment.yml is not valid YAML: "),
        (
            "name: !!python/object:os.system x",
            "environment.yml is not valid YAML: line 1, column 7: could not determine",
        ),
        ("- numpy", "environment.yml must have keys like channels: and dependencies: at its top"),
        ("numpy", "environment.yml must have keys like channels: and dependencies: at its top"),
        ("dependencies: numpy", "environment.yml, dependencies: it must be a list, each line of it with a dash"),
        ("dependencies:\n- 3.10", "environment.yml, dependencies: 3.1 is not text: put it in quotes"),
        ("dependencies:\n- [numpy]", "environment.yml, dependencies: .'numpy'. is not text: put it in quotes"),
        (
            "dependencies:\n- numpy: 1.2",
            "environment.yml, dependencies: 'numpy' is not a list that conda knows, as pip is",
        ),
        ("dependencies:\n- pip: six", "environment.yml, pip: it must be a list, each line of it with a dash"),
        ("dependencies:\n- pip: [six, 1]", "environment.yml, pip: 1 is not text: put it in quotes"),
        ("dependencies:\n- pip: [six, -e gone]", "environment.yml, pip, line 2: -e gone: there is no such folder"),
        ("channels: conda-forge", "environment.yml, channels: it must be a list, each line of it with a dash"),
        ("channels:\n- {a: b}", "environment.yml, channels: {'a': 'b'} is not text: put it in quotes"),
        ("variables: [A]", "environment.yml, variables: it must have lines like NAME: value"),
        ("variables: {A: [1]}", r"environment.yml, variables: \[1\] is not text"),
    ],
)
def test_a_fault_is_a_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(StepError, match=f"^{complaint}") as error:
        _read(tmp_path, text)
    assert error.value.code == "build_failed"
    assert "\n" not in error.value.message


@pytest.mark.parametrize("name", ["environment.yml", "binder/environment.yaml"])
def test_a_link_that_leads_out_of_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    outside = make_checkout(tmp_path / "outside", {"own.yml": "name: a"})
    place = make_checkout(tmp_path / "repo", {f"{name}.txt": ""}) / name
    place.symlink_to(outside / "own.yml")
    with pytest.raises(StepError, match=f"^{name} is a link that leads out of the repository"):
        read_environment(Checkout.at(tmp_path / "repo"), {})


def test_a_deep_file_is_a_fault_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^environment.yml is not valid YAML: "):
        _read(tmp_path, "[" * 700)

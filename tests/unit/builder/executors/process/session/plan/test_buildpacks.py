"""One buildpack wins, in repo2docker's order, and what it does not read does not count."""

from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import Buildpack
from services.builder.executors.process.session.plan.buildpacks import chosen
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.reading import read
from services.builder.executors.process.session.plan.refusals import NowhereError
from services.builder.executors.process.session.plan.runtime import read_runtime
from tests.support.checkouts import Files, make_checkout, plan_of

BUILT_WITH_REPO2DOCKER = "The kubernetes and docker executors can: they build with repo2docker"


@pytest.mark.parametrize(
    ("files", "file", "feature"),
    [
        ({"Dockerfile": "FROM x"}, "Dockerfile", "a Dockerfile"),
        ({"Dockerfile": "FROM x", "environment.yml": "["}, "Dockerfile", "a Dockerfile"),
        ({"Dockerfile": "FROM x", "apt.txt": "vim", "runtime.txt": "nonsense"}, "Dockerfile", "a Dockerfile"),
        ({"Project.toml": "", "requirements.txt": "six"}, "Project.toml", "a Julia project"),
        ({"JuliaProject.toml": "", "default.nix": ""}, "JuliaProject.toml", "a Julia project"),
        ({"Project.toml": "", "REQUIRE": "julia 0.6"}, "Project.toml", "a Julia project"),
        ({"default.nix": "", "environment.yml": "name: a"}, "default.nix", "a Nix environment"),
        ({"DESCRIPTION": "Package: a", "requirements.txt": "six"}, "DESCRIPTION", "R packages"),
        ({"runtime.txt": "r-4.1-2023-01-01", "environment.yml": "name: a"}, "runtime.txt", "R packages"),
        ({"runtime.txt": "r-2023-01-01\n"}, "runtime.txt", "R packages"),
        ({"runtime.txt": "r-4.1"}, "runtime.txt", "R packages"),
        ({"binder/Dockerfile": "FROM x", "requirements.txt": "six"}, "binder/Dockerfile", "a Dockerfile"),
        ({".binder/default.nix": "", "requirements.txt": "six"}, ".binder/default.nix", "a Nix environment"),
        (
            {"requirements.txt": "six", "apt.txt": "# editors\n vim # small\n"},
            "apt.txt",
            "packages of the operating system",
        ),
        ({"runtime.txt": "python-2.7"}, "runtime.txt", "a kernel of Python 2.7 beside a newer Jupyter"),
        ({"runtime.txt": "python-3.6.4"}, "runtime.txt", "a kernel of Python 3.6.4 beside a newer Jupyter"),
        (
            {"environment.yml": "dependencies: [python=2.7.18]"},
            "environment.yml",
            "a kernel of Python 2.7 beside a newer Jupyter",
        ),
    ],
)
def test_what_a_process_cannot_provide_is_refused_in_one_sentence(
    tmp_path: Path, files: Files, file: str, feature: str
) -> None:
    with pytest.raises(StepError) as error:
        plan_of(tmp_path, files)
    assert error.value.code == "unsupported_repository"
    assert error.value.message == f"{file}: the process executor can't build {feature}. {BUILT_WITH_REPO2DOCKER}"


def test_what_no_executor_builds_is_not_promised_of_another(tmp_path: Path) -> None:
    with pytest.raises(NowhereError, match=r"^REQUIRE: no executor builds it any more.*Project\.toml") as error:
        plan_of(tmp_path, {"REQUIRE": "julia 0.6"})
    assert error.value.code == "unsupported_repository"


@pytest.mark.parametrize(
    ("files", "buildpack", "file"),
    [
        ({}, Buildpack.PYTHON, None),
        ({"requirements.txt": "six"}, Buildpack.PYTHON, "requirements.txt"),
        ({"Pipfile": "", "requirements.txt": "no such"}, Buildpack.PIPFILE, "Pipfile"),
        ({"Pipfile": "[", "Pipfile.lock": "{}"}, Buildpack.PIPFILE, "Pipfile.lock"),
        ({"Pipfile": "", "runtime.txt": "julia-1.6"}, Buildpack.PYTHON, "runtime.txt"),
        ({"Pipfile": "", "runtime.txt": "python-3.12"}, Buildpack.PIPFILE, "Pipfile"),
        ({"binder/requirements.txt": "six", "Pipfile": ""}, Buildpack.PYTHON, "binder/requirements.txt"),
        ({"binder/postBuild": "", "DESCRIPTION": "", "setup.py": ""}, Buildpack.PYTHON, None),
        ({"binder/DESCRIPTION": ""}, Buildpack.PYTHON, None),
        ({"environment.yml": "name: a", "Pipfile": "["}, Buildpack.CONDA, "environment.yml"),
        ({"environment.yaml": "name: a", "requirements.txt": "six"}, Buildpack.CONDA, "environment.yaml"),
        ({"environment.yml": "name: a", "runtime.txt": "r-4.1"}, Buildpack.CONDA, "environment.yml"),
        ({"environment.yml/": "", "setup.py": ""}, Buildpack.PYTHON, "setup.py"),
    ],
)
def test_the_winner_is_named_with_its_file(
    tmp_path: Path, files: Files, buildpack: Buildpack, file: str | None
) -> None:
    checkout = Checkout.at(make_checkout(tmp_path, files))
    assert chosen(checkout, read_runtime(checkout)) == (buildpack, file)


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (
            {"install.R": "x"},
            "install.R is passed over, as in repo2docker: R needs a runtime.txt like r-4.4-2025-01-31",
        ),
        (
            {"Pipfile": "", "requirements.txt": "no such thing"},
            "requirements.txt is passed over, as in repo2docker: Pipfile decides",
        ),
        (
            {"runtime.txt": "julia-1.6", "Pipfile": "["},
            "Pipfile is passed over, as in repo2docker: runtime.txt decides",
        ),
        (
            {"runtime.txt": "julia-1.6"},
            "runtime.txt is passed over, as in repo2docker: julia is no language it knows",
        ),
    ],
)
def test_a_file_that_the_winner_ignores_is_ignored_with_a_note(tmp_path: Path, files: Files, note: str) -> None:
    plan = plan_of(tmp_path, files)
    assert note in plan.notes
    assert plan.installs == ()


@pytest.mark.parametrize("name", ["binder", ".binder"])
def test_with_a_binder_folder_only_its_files_count(tmp_path: Path, name: str) -> None:
    files: Files = {
        f"{name}/requirements.txt": "six",
        "requirements.txt": "no",
        "setup.py": "no",
        "pyproject.toml": "[",
        "Dockerfile": "FROM no",
        "apt.txt": "no",
        "postBuild": "\r\n",
    }
    plan = plan_of(tmp_path, files)
    assert [(install.source, install.requirements) for install in plan.installs] == [
        (f"{name}/requirements.txt", ("six",))
    ]
    assert plan.post_build is None


def test_two_binder_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="only one of them can count") as error:
        plan_of(tmp_path, {"binder/requirements.txt": "", ".binder/requirements.txt": ""})
    assert error.value.code == "build_failed"


@pytest.mark.parametrize("text", ["", "# nothing\n\n   # yet\n", b"\xef\xbb\xbf# nothing\r\n"])
def test_an_apt_txt_that_asks_for_nothing_is_no_obstacle(tmp_path: Path, text: str | bytes) -> None:
    assert plan_of(tmp_path, {"apt.txt": text}).installs == ()


@pytest.mark.parametrize("folder", ["", "binder/"])
@pytest.mark.parametrize(
    "name",
    ["runtime.txt", "requirements.txt", "apt.txt", "postBuild", "start", "Pipfile", "Pipfile.lock"],
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
        read(tmp_path / "repo")
    assert outside.stat().st_mode == mode


@pytest.mark.parametrize("name", ["setup.py", "pyproject.toml"])
def test_a_project_that_leads_out_of_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "own"
    outside.write_text("")
    repo = make_checkout(tmp_path / "repo", {})
    (repo / name).symlink_to(outside)
    with pytest.raises(StepError, match=f"^{name} is a link that leads out of the repository"):
        read(repo)


def test_a_dangling_link_does_not_count_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "postBuild").symlink_to("postBuild")
    (tmp_path / "start").symlink_to("/nowhere/start")
    (tmp_path / "Dockerfile").symlink_to("/nowhere/Dockerfile")
    plan = read(tmp_path)
    assert (plan.post_build, plan.start, plan.installs) == (None, None, ())


def test_reading_changes_nothing(tmp_path: Path) -> None:
    files: Files = {"requirements.txt": "six", "postBuild": "echo", "start": "#!/bin/sh\n", "setup.py": ""}
    repo = make_checkout(tmp_path, files)
    before = {path: (path.stat().st_mode, path.stat().st_mtime_ns) for path in repo.iterdir()}
    read(repo)
    assert {path: (path.stat().st_mode, path.stat().st_mtime_ns) for path in repo.iterdir()} == before


def test_a_file_of_megabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^requirements.txt is larger than a MiB$"):
        plan_of(tmp_path, {"requirements.txt": "#" * (2**20 + 1)})

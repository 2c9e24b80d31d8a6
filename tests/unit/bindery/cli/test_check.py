"""`bindery check`."""

import json
from pathlib import Path

import pytest

from bindery.cli import main
from tests.support.checkouts import PACKAGE, Files, make_checkout
from tests.support.sample_builds import make_repository

BUILT = "Built by the executor"
REFUSED = "Refused by the executor"
HERE = ", which runs the builds of this machine"


def check(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines of the command."""
    status = main(["check", str(folder), *options])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out.splitlines()


@pytest.fixture(autouse=True)
def plain_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINDERY_EXECUTOR", "BINDERY_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_it_says_what_would_be_built_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: Files = {
        "requirements.txt": "six==1.16 # small\n-e ./sub\n--pre\n",
        "sub/setup.py": "",
        "runtime.txt": "python-3.12",
        "postBuild": "echo",
        "start": "exec",
        "install.R": "",
        **PACKAGE,
    }
    repo = make_checkout(tmp_path, files)
    status, lines = check(capsys, repo)
    assert status == 0
    assert lines == [
        f"Folder     {repo.resolve()}",
        "Read as    Python packages: requirements.txt",
        "Python     3.12",
        "Installed  Jupyter, as the operator says",
        "           requirements.txt: six==1.16, -e ./sub",
        "           setup.py: this folder",
        "Then       postBuild runs",
        "At start   start runs around each server",
        "Note       install.R is passed over, as in repo2docker: R needs a runtime.txt like r-4.4-2025-01-31",
        "",
        f"{BUILT} process{HERE}",
        f"{BUILT} docker",
        f"{BUILT} kubernetes",
    ]
    assert not (repo / "postBuild").stat().st_mode & 0o111


def test_a_conda_environment_is_told_with_what_it_takes_from_pip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files: Files = {"environment.yml": "channels: [lab]\ndependencies: [python=3.12, numpy, {pip: [six]}]\n"}
    status, lines = check(capsys, make_checkout(tmp_path, files))
    assert status == 0
    assert lines[1:6] == [
        "Read as    a conda environment: environment.yml",
        "Python     3.12",
        "Installed  Jupyter, as the operator says",
        "           environment.yml: python=3.12, numpy",
        "           pip: of environment.yml: six",
    ]


def test_a_folder_without_any_file_gets_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = check(capsys, tmp_path)
    assert status == 0
    assert "Read as    no environment of its own" in lines
    assert "Python     the default one" in lines


@pytest.mark.parametrize(
    ("files", "executor", "status", "verdicts"),
    [
        ({"Dockerfile": ""}, "process", 1, [f"{REFUSED} process{HERE}", f"{BUILT} docker", f"{BUILT} kubernetes"]),
        ({"Dockerfile": ""}, "docker", 0, [f"{BUILT} docker{HERE}", f"{REFUSED} process", f"{BUILT} kubernetes"]),
        ({"REQUIRE": ""}, "docker", 1, [f"{REFUSED} docker{HERE}", f"{REFUSED} process", f"{REFUSED} kubernetes"]),
        (
            {"runtime.txt": "python"},
            "kubernetes",
            1,
            [f"{REFUSED} kubernetes{HERE}", f"{REFUSED} process", f"{REFUSED} docker"],
        ),
        (
            {"apt.txt": "vim"},
            "ours",
            0,
            [
                f"Not known here whether it is built by the executor ours{HERE}",
                f"{REFUSED} process",
                f"{BUILT} docker",
                f"{BUILT} kubernetes",
            ],
        ),
    ],
)
def test_the_status_is_that_of_this_machines_executor(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    files: Files,
    executor: str,
    status: int,
    verdicts: list[str],
) -> None:
    monkeypatch.setenv("BINDERY_EXECUTOR", executor)
    ended, lines = check(capsys, make_checkout(tmp_path, files))
    assert ended == status
    assert lines[-len(verdicts) :] == verdicts


def test_a_refusal_is_the_sentence_of_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = check(capsys, make_checkout(tmp_path, {"binder/apt.txt": "vim\x1b[2J"}))
    assert lines[:2] == [
        f"Folder     {tmp_path.resolve()} (only the files in binder/ count)",
        "Refused    binder/apt.txt: the process executor can't build packages of the operating system. "
        "The kubernetes and docker executors can: they build with repo2docker",
    ]


def test_words_of_a_repository_do_not_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = check(capsys, make_checkout(tmp_path, {"runtime.txt": "python-\x1b[31m"}))
    assert not any("\x1b" in line for line in lines)


def test_everything_that_is_known_is_in_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: Files = {"requirements.txt": "-c limits.txt\n--pre\nsix\n", "limits.txt": "six<2"}
    status, lines = check(capsys, make_checkout(tmp_path, files), "--json")
    assert status == 0
    report = json.loads("\n".join(lines))
    assert report["executors"] == {"process": True, "docker": True, "kubernetes": True}
    assert report["installs"] == [
        {
            "source": "requirements.txt",
            "requirements": ["six"],
            "constraints": ["six<2"],
            "arguments": ["--prerelease=allow"],
        }
    ]
    assert (report["code"], report["message"]) == (None, None)

    (tmp_path / "Dockerfile").touch()
    status, lines = check(capsys, tmp_path, "--json")
    report = json.loads("\n".join(lines))
    assert status == 1
    assert report["code"] == "unsupported_repository"
    assert report["message"].startswith("Dockerfile: the process executor can't build")


def test_what_is_not_committed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_repository(tmp_path / "repo", {"sub/requirements.txt": "six", "sub/postBuild": "echo", ".gitignore": "start"})
    files: Files = {"requirements.txt": "numpy", "runtime.txt": "python-3.12", "start": "exec", "other.txt": ""}
    _, lines = check(capsys, make_checkout(tmp_path / "repo" / "sub", files))
    assert {line for line in lines if line.startswith("Note")} == {
        f"Note       {name} is not committed as it is: a launch would not see it"
        for name in ("requirements.txt", "runtime.txt", "start")
    }


def test_a_folder_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "gone")]) == 1
    assert capsys.readouterr().err == f"bindery: {tmp_path / 'gone'} is not a folder\n"

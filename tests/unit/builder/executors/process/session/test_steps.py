"""Builds of small real repositories, with the real installer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from services.builder.executors.process.session import interpreter
from services.builder.executors.process.session.environment import installer_environment
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.processes import identify
from tests.support.sample_builds import QUICK, BuildResult, build_files, processes_mentioning


def _python(built: BuildResult, code: str) -> str:
    command = [str(built.image.python), "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=True).stdout


async def test_a_build_leaves_an_image_in_which_the_requirements_are_importable(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"requirements.txt": "six\n", "start": '#!/bin/sh\nexec "$@"\n'})
    assert built.outcome.ok, built.text
    manifest = built.image.manifest()
    assert manifest is not None
    assert manifest.start == "start"
    assert (built.image.repo / "requirements.txt").is_file()
    assert str(built.image.env) in _python(built, "import six; print(six.__file__)")
    assert built.lines[0][0] == "fetching"
    assert "six" in built.text
    assert all(message.endswith("\n") and phase in {"fetching", "building"} for phase, message in built.lines)


async def test_unresolvable_requirements_show_the_installers_own_lines(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"requirements.txt": "six==0.0.99\n"})
    assert built.code == "build_failed"
    assert "no version of six==0.0.99" in built.text
    assert built.lines[-1][0] == "failed"
    assert not built.image.path.exists()


@pytest.mark.slow
async def test_a_package_at_the_top_is_installed(tmp_path: Path) -> None:
    project = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    project += '[project]\nname = "oneoff"\nversion = "1"\n[tool.setuptools]\npy-modules = ["oneoff"]\n'
    built = await build_files(tmp_path, {"pyproject.toml": project, "oneoff.py": "answer = 42\n"})
    assert built.outcome.ok, built.text
    assert _python(built, "import oneoff; print(oneoff.answer)") == "42\n"


async def test_post_build_runs_inside_the_environment_and_sees_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_SERVICE_TOKEN", "very secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    script = "#!/bin/sh\npwd > where\ncommand -v python >> where\nenv > environment\necho $HOME > $HOME/mine\n"
    built = await build_files(tmp_path, {"postBuild": script})
    assert built.outcome.ok, built.text
    where, python = (built.image.repo / "where").read_text().splitlines()
    assert (where, python) == (str(built.image.repo), str(built.image.python))
    environment = (built.image.repo / "environment").read_text()
    assert "secret" not in environment
    assert "BINDERY_" not in environment.replace("BINDERY_RUN=", "")
    assert (built.image.repo / "mine").read_text().strip() == str(built.image.repo)


async def test_a_failing_post_build_is_the_authors_move(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"postBuild": "#!/bin/sh\necho before the end\nexit 3\n"})
    assert (built.code, built.message) == ("build_failed", "postBuild ended with exit status 3")
    assert "before the end" in built.text
    assert not built.image.path.exists()


@pytest.mark.slow
async def test_a_post_build_without_end_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = f"#!/bin/sh\nsetsid sleep 98{os.getpid()} &\nsleep 97{os.getpid()}\n"
    settings = QUICK.model_copy(update={"post_build_timeout_seconds": 0.5})
    built = await build_files(tmp_path, {"postBuild": script}, settings)
    assert (built.code, built.message) == ("build_timeout", "postBuild did not end within 0.5 seconds and was killed")
    assert processes_mentioning([f"sleep 98{os.getpid()}", f"sleep 97{os.getpid()}"]) == []


async def test_processes_left_by_post_build_are_killed_and_do_not_delay_the_build(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"postBuild": f"#!/bin/sh\nsetsid sleep 96{os.getpid()} &\n"})
    assert built.outcome.ok
    assert processes_mentioning([f"sleep 96{os.getpid()}"]) == []


async def test_a_post_build_with_a_missing_interpreter_is_reported(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"postBuild": "#!/no/such/program\n"})
    assert built.code == "build_failed"
    assert "postBuild can't be run" in built.message


@pytest.mark.slow
async def test_an_unavailable_python_names_those_that_are_there(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"runtime.txt": "python-3.2\n"})
    assert built.code == "python_unavailable"
    assert "asks for Python 3.2" in built.message
    assert "Installed: " in built.message
    assert "3.1" in built.message.partition("Installed: ")[2]


async def test_the_default_python_is_used_where_it_fits(tmp_path: Path) -> None:
    built = await build_files(
        tmp_path, {"pyproject.toml": '[project]\nname="a"\nversion="1"\nrequires-python=">=3.8"\n'}
    )
    manifest = built.image.manifest()
    assert manifest is not None, built.text
    assert manifest.python == ".".join(str(part) for part in __import__("sys").version_info[:3])


async def test_a_requires_python_that_is_an_option_of_uv_is_the_authors_to_mend(tmp_path: Path) -> None:
    project = '[project]\nname = "a"\nversion = "1"\nrequires-python = "--show-version"\n'
    built = await build_files(tmp_path, {"pyproject.toml": project})
    assert built.code == "build_failed"
    assert built.message.startswith("pyproject.toml says requires-python = '--show-version'; it must be")


@pytest.mark.slow
async def test_a_wish_is_never_an_option_of_the_installer(tmp_path: Path) -> None:
    """Whoever asks: `--show-version` makes uv answer with a version, a path, or nothing that is an interpreter."""
    log = BuildLog(tmp_path / "log", max_line_bytes=1000, max_log_bytes=10_000)
    env = installer_environment(os.environ, tmp_path, tmp_path, downloads="never")
    with pytest.raises(StepError, match="asks for Python --show-version") as error:
        await interpreter.find(
            "--show-version", default=sys.executable, uv=uv.find_uv_bin(), env=env, log=log, folder=tmp_path,
            timeout_seconds=60, max_line_bytes=1000,
        )  # fmt: skip
    log.close()
    assert error.value.code == "python_unavailable"


async def test_a_repository_for_another_executor_is_refused(tmp_path: Path) -> None:
    built = await build_files(tmp_path, {"Dockerfile": "FROM scratch\n"})
    assert built.code == "unsupported_repository"
    assert "Dockerfile" in built.message


async def test_a_large_repository_is_refused(tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"max_repository_bytes": 2**20})
    built = await build_files(tmp_path, {"data": "x" * 2**21}, settings)
    assert built.code == "repository_too_large"


async def test_a_line_of_megabytes_is_cut(tmp_path: Path) -> None:
    script = "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\necho\necho after\n"
    built = await build_files(tmp_path, {"postBuild": script})
    assert built.outcome.ok
    cut = next(message for _, message in built.lines if "The line is cut" in message)
    assert len(cut) < 70_000
    assert "after\n" in [message for _, message in built.lines]


def test_a_recycled_pid_is_not_the_same_process() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.is_alive
    assert not type(me)(me.pid, "1").is_alive

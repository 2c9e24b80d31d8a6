"""postBuild and start: run as they are, run by sh, or refused in one sentence."""

import subprocess
from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import Script
from tests.support.checkouts import make_checkout, plan_of


@pytest.mark.parametrize("name", ["postBuild", "binder/start"])
@pytest.mark.parametrize(
    ("content", "is_program"),
    [
        ("#!/bin/sh\necho ran\n", True),
        ("echo ran\n", False),
        ("# what it does\necho ran", False),
        ("\necho ran\n", False),
        (b"\xef\xbb\xbf#!/bin/sh\necho ran\n", False),
    ],
)
def test_a_script_runs(tmp_path: Path, name: str, content: str | bytes, is_program: bool) -> None:
    plan = plan_of(tmp_path, {name: content})
    script = plan.post_build or plan.start
    assert script
    assert script == Script(tmp_path.resolve() / name, is_program)
    script.make_executable()
    assert subprocess.run(script.command, capture_output=True, check=True).stdout == b"ran\n"


def test_a_script_that_may_be_executed_already_keeps_its_other_bits(tmp_path: Path) -> None:
    make_checkout(tmp_path, {"start": "#!/bin/sh\n"})
    (tmp_path / "start").chmod(0o640)
    script = plan_of(tmp_path, {}).start
    assert script
    script.make_executable()
    assert (tmp_path / "start").stat().st_mode & 0o777 == 0o751


@pytest.mark.parametrize("name", ["postBuild", "start", "binder/postBuild"])
@pytest.mark.parametrize("content", ["#!/bin/sh\r\necho\r\n", "echo\r\n", b"\xef\xbb\xbf#!/bin/sh\r\n"])
def test_windows_line_endings_are_refused_in_one_sentence(tmp_path: Path, name: str, content: str | bytes) -> None:
    with pytest.raises(
        StepError, match=f"^{name} has Windows line endings: save it with Unix ones, so that it can be run$"
    ) as error:
        plan_of(tmp_path, {name: content})
    assert error.value.code == "build_failed"


def test_a_link_inside_the_repository_is_followed(tmp_path: Path) -> None:
    make_checkout(tmp_path, {"scripts/post": "#!/bin/sh\n"})
    (tmp_path / "postBuild").symlink_to("scripts/post")
    assert plan_of(tmp_path, {}).post_build == Script(tmp_path.resolve() / "postBuild")

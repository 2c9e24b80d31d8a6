"""A file of a build that can't be read costs that build another run at most, and no other build anything."""

from pathlib import Path

import pytest

from services.builder.executors.base import Batch, ExecutionVanishedError, Line
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.session.layout import BuildFolder, Exit, Layout
from tests.support.sample_builds import ATTEMPT, QUICK

LOG = b'{"phase": "building", "message": "one\\n"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    """The folder of a build whose session has ended."""
    folder = Layout(tmp_path).build(ATTEMPT.build_id)
    folder.path.mkdir(parents=True)
    folder.log.write_bytes(LOG)
    folder.exit_path.write_text(Exit(ok=True).model_dump_json())
    return folder


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ok": "perhaps"}'])
async def test_a_build_whose_end_cant_be_read_has_vanished(tmp_path: Path, folder: BuildFolder, content: str) -> None:
    folder.exit_path.write_text(content)
    updates = ProcessExecutor(tmp_path, QUICK).follow(ATTEMPT, "")
    assert await anext(updates) == Batch((Line("building", "one\n"),), str(len(LOG)))
    with pytest.raises(ExecutionVanishedError):
        await anext(updates)


@pytest.mark.parametrize("position", ["1795474800000000001/1", "0123456789ab/1795474800.000000001/2"])
async def test_a_position_of_another_executor_is_the_beginning(
    tmp_path: Path, folder: BuildFolder, position: str
) -> None:
    assert folder.exit() == Exit(ok=True)
    update = await anext(ProcessExecutor(tmp_path, QUICK).follow(ATTEMPT, position))
    assert update == Batch((Line("building", "one\n"),), str(len(LOG)))


async def test_numbers_that_cant_be_read_keep_no_build_from_being_listed(tmp_path: Path, folder: BuildFolder) -> None:
    folder.run.write_text("many")
    folder.epoch.write_text("none")
    executor = ProcessExecutor(tmp_path, QUICK)
    await executor.ensure(ATTEMPT)
    assert [execution.build_id for execution in await executor.list()] == [ATTEMPT.build_id]

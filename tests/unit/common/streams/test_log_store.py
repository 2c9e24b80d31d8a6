"""Finished logs in files: many processes write to the folder, and each removes what is old."""

import os
from pathlib import Path

from services.common.service.settings import ServiceSettings
from services.common.streams.entries import Entry
from services.common.streams.log_store import FileLogs

ENTRY = Entry(id="1-0", number=1, lines=0, bytes_before=0, payload=b'[{"phase":"built"}]')


async def test_old_logs_are_removed_when_another_is_stored(tmp_path: Path) -> None:
    logs = FileLogs(tmp_path, ServiceSettings(log_ttl_seconds=60))
    await logs.put("old-1", [ENTRY], is_public=True)
    os.utime(tmp_path / "ol" / "old-1.jsonl.gz", (1, 1))
    await logs.put("new-1", [ENTRY], is_public=True)
    assert await logs.read("old-1") is None
    assert await logs.read("new-1") == [ENTRY]


async def test_an_old_log_that_another_process_removes_meanwhile_is_passed_over(tmp_path: Path) -> None:
    logs = FileLogs(tmp_path, ServiceSettings(log_ttl_seconds=60))
    (tmp_path / "go").mkdir()
    (tmp_path / "go" / "gone-1.jsonl.gz").symlink_to(tmp_path / "nothing")  # it is listed, and not there when looked at
    await logs.put("old-1", [ENTRY], is_public=True)
    os.utime(tmp_path / "ol" / "old-1.jsonl.gz", (1, 1))
    await logs.put("new-1", [ENTRY], is_public=True)
    assert await logs.read("new-1") == [ENTRY]
    assert await logs.read("old-1") is None

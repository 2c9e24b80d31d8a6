"""Bases: made once, shared, held, and made anew when they are old."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.builder.executors.process.session.bases import Base, find_or_make, finished_bases, key_of

HOUR = 3600.0
KEY = key_of(packages=["jupyterlab"], interpreter=Path("/usr/bin/python3"))


class Maker:
    """Makes bases, and counts them."""

    def __init__(self) -> None:
        self.made = 0
        self.begins = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, base: Base) -> None:
        self.made += 1
        self.begins.set()
        await self.may_end.wait()
        base.env.mkdir()
        (base.env / "number").write_text(str(self.made))
        base.finish("3.11.7")


def test_a_key_tells_what_a_base_is_made_of() -> None:
    assert key_of(packages=["jupyterlab"], interpreter="/usr/bin/python3") == KEY
    assert key_of(packages=["notebook"], interpreter="/usr/bin/python3") != KEY


async def test_builds_at_once_make_one_base_and_share_it(tmp_path: Path) -> None:
    make = Maker()
    make.may_end.clear()
    finding = [asyncio.create_task(find_or_make(tmp_path, KEY, make, max_age_seconds=HOUR)) for _ in range(3)]
    await make.begins.wait()
    make.may_end.set()
    bases = await asyncio.gather(*finding)
    assert (make.made, len({base.path for base in bases})) == (1, 1)
    assert [(manifest.python, base.env.is_dir()) for base, manifest in finished_bases(tmp_path)] == [("3.11.7", True)]


async def test_an_old_base_is_followed_by_a_new_one(tmp_path: Path) -> None:
    make = Maker()
    first = await find_or_make(tmp_path, KEY, make, max_age_seconds=HOUR)
    old = first.path.rename(tmp_path / f"{KEY}-{int(first.made_at - HOUR)}")
    second = await find_or_make(tmp_path, KEY, make, max_age_seconds=HOUR)
    assert (make.made, second.name != old.name, old.is_dir()) == (2, True, True)
    assert (await find_or_make(tmp_path, KEY, make, max_age_seconds=HOUR)).name == second.name


async def test_a_failure_leaves_nothing_and_the_next_build_tries_again(tmp_path: Path) -> None:
    async def fail(base: Base) -> None:
        base.env.mkdir()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        await find_or_make(tmp_path, KEY, fail, max_age_seconds=HOUR)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    await find_or_make(tmp_path, KEY, Maker(), max_age_seconds=HOUR)


async def test_a_maker_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from services.builder.executors.process.session.bases import find_or_make
async def make(base):
    (base.path / "half").touch()
    print("here", flush=True)
    await asyncio.Event().wait()
asyncio.run(find_or_make(Path({str(tmp_path)!r}), {KEY!r}, make, max_age_seconds=60))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)  # noqa: ASYNC220 -- it is killed
    assert process.stdout
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    base = await find_or_make(tmp_path, KEY, Maker(), max_age_seconds=HOUR)
    assert {path.name for path in base.path.iterdir()} == {"env", "base.json", "lock"}


async def test_a_base_that_a_build_holds_is_not_set_aside(tmp_path: Path) -> None:
    base = await find_or_make(tmp_path, KEY, Maker(), max_age_seconds=HOUR)
    assert Base(base.path).set_aside() == []
    path = base.path
    del base
    [removed] = Base(path).set_aside()
    assert removed.name.startswith(".removed-")
    assert not Base(path).hold()
    assert finished_bases(tmp_path) == []

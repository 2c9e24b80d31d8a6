"""A real build that prints lines at a steady rate, once it is told to go: each line says when it was printed."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.support.forge import Forge

WAITING = b"waiting for the word to go"
LINE = re.compile(rb"line (\d+) at (\d+\.\d+)")
PER_SECOND = 20

_POST_BUILD = """#!/usr/bin/env python3
import pathlib, time
go = pathlib.Path({go!r})
give_up = time.time() + 240
print({waiting!r}, flush=True)
while not go.exists() and time.time() < give_up:
    time.sleep(0.01)
begun = time.time()
for number in range({lines}):
    time.sleep(max(0.0, begun + number / {per_second} - time.time()))
    print(f"line {{number}} at {{time.time():.6f}}", flush=True)
"""


@dataclass(frozen=True)
class WatchedBuild:
    """A repository whose build prints `lines` lines after `go`; `path` is its address below the façade."""

    path: str
    go_file: Path
    lines: int

    @classmethod
    def make(cls, forge: Forge, name: str, folder: Path, lines: int) -> "WatchedBuild":
        folder.mkdir(parents=True, exist_ok=True)
        go = folder / f"{name}.go"
        script = _POST_BUILD.format(go=str(go), waiting=WAITING.decode(), lines=lines, per_second=PER_SECOND)
        sha = forge.create_repo("load", name, {"postBuild": script})
        return cls(f"/build/git/{quote(f'{forge.url}/load/{name}', safe='')}/{sha}", go, lines)

    def go(self) -> None:
        self.go_file.touch()

"""The images of this machine: which there are, which are in use, and which go when they grow too large."""

import json
import time
from pathlib import Path

from services.builder.executors.process.session.layout import ImageFolder, Layout, remove_tree
from services.builder.executors.process.session.processes import Identity


def find(layout: Layout, image: str) -> ImageFolder | None:
    """Return the newest finished folder of an image; None if there is none."""
    return next(iter(layout.images_of(image)), None)


def in_use(layout: Layout) -> set[str]:
    """Return the build ids of the images that servers run from, or are about to."""
    used = set()
    for path in layout.servers.glob("*.json"):
        try:
            record = json.loads(path.read_text())
            process, build_id = Identity(int(record["pid"]), str(record["start_time"])), str(record["build_id"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if process.is_alive:
            used.add(build_id)
    return used


def evict(layout: Layout, *, max_bytes: int, grace_seconds: float = 600) -> list[str]:
    """Remove the least recently launched images until the rest fits into `max_bytes`; return their build ids.

    Also removed is what no living session builds: half-built folders, and what an interrupted removal left.
    Blocks; what servers use, and what was built `grace_seconds` ago and not launched yet, stays.
    """
    gone: list[Path] = []
    evicted: list[str] = []
    with layout.images_locked():
        gone += layout.images.glob(".removed-*")
        folders = [ImageFolder(path) for path in layout.images.iterdir() if not path.name.startswith(".")]
        sizes: dict[str, int] = {}
        for folder in folders:
            if manifest := folder.manifest():
                sizes[folder.build_id] = manifest.size_bytes
            elif not folder.manifest_path.exists() and not layout.build(folder.build_id).is_alive:
                gone += _out_of_the_way(folder)  # half built; a manifest that we can't read may be a newer release's
        used = in_use(layout)
        total = sum(sizes.values())
        for folder in sorted((one for one in folders if one.build_id in sizes), key=_last_needed):
            if total <= max_bytes:
                break
            if folder.build_id in used or _awaits_its_launch(folder, grace_seconds):
                continue
            total -= sizes[folder.build_id]
            evicted.append(folder.build_id)
            gone += _out_of_the_way(folder)
    for path in gone:  # outside of the lock: a gigabyte takes its time, and servers wait for the lock
        remove_tree(path)
    return evicted


def _out_of_the_way(folder: ImageFolder) -> list[Path]:
    try:
        return [folder.path.rename(folder.path.with_name(f".removed-{folder.build_id}-{time.time_ns()}"))]
    except FileNotFoundError:  # a build that failed removes its own
        return []


def _built_at(folder: ImageFolder) -> float:
    return folder.manifest_path.stat().st_mtime


def _last_needed(folder: ImageFolder) -> float:
    launched_at = folder.launched_at()
    return _built_at(folder) if launched_at is None else launched_at


def _awaits_its_launch(folder: ImageFolder, grace_seconds: float) -> bool:
    return folder.launched_at() is None and time.time() - _built_at(folder) < grace_seconds

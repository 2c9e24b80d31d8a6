"""The images of this machine: the one to launch, those in use, and those to evict when all are too large."""

import json
import time
from pathlib import Path

from services.builder.executors.process.session.layout import ImageFolder, Layout, remove_tree
from services.builder.executors.process.session.processes import Identity


def find(layout: Layout, image: str) -> ImageFolder | None:
    """Return the newest finished folder of an image; None if there is none."""
    return next(iter(layout.images_of(image)), None)


def in_use(layout: Layout) -> set[str]:
    """Return the build ids of the images that servers run from or are starting from."""
    used = set()
    for path in layout.servers.glob("*.json"):
        try:
            record = json.loads(path.read_text())
            process = Identity(int(record["pid"]), str(record["start_time"]))
            build_id = str(record["build_id"])
        except (OSError, ValueError, KeyError, TypeError):
            continue

        if process.is_alive:
            used.add(build_id)
    return used


def evict(layout: Layout, *, max_bytes: int, grace_seconds: float = 600) -> list[str]:
    """Remove the least recently launched images until the rest fits into `max_bytes`; return their build ids.

    Half-built folders without a living session are removed as well, and so are folders whose removal was interrupted.
    Images in use stay, and so does an image that was built less than `grace_seconds` ago and never launched. Blocks.
    """
    evicted: list[str] = []
    with layout.images_locked():
        removals = list(layout.images.glob(".removed-*"))
        folders = [ImageFolder(path) for path in layout.images.iterdir() if not path.name.startswith(".")]

        sizes: dict[str, int] = {}
        for folder in folders:
            if manifest := folder.manifest():
                sizes[folder.build_id] = manifest.size_bytes
            elif not folder.manifest_path.exists() and not layout.build(folder.build_id).is_alive:
                # Half built. A manifest that exists and can't be read may be a newer release's: that folder stays.
                removals += _set_aside(folder)

        used = in_use(layout)
        total = sum(sizes.values())
        finished = [folder for folder in folders if folder.build_id in sizes]
        for folder in sorted(finished, key=_last_needed):
            if total <= max_bytes:
                break
            if folder.build_id in used or _awaits_launch(folder, grace_seconds):
                continue
            total -= sizes[folder.build_id]
            evicted.append(folder.build_id)
            removals += _set_aside(folder)

    # Outside of the lock: removing a gigabyte takes a while, and servers wait for the lock.
    for path in removals:
        remove_tree(path)
    return evicted


def _set_aside(folder: ImageFolder) -> list[Path]:
    """Rename a folder, so that nothing finds it any more; return its new path."""
    try:
        return [folder.path.rename(folder.path.with_name(f".removed-{folder.build_id}-{time.time_ns()}"))]
    except FileNotFoundError:  # a build that fails removes its own folder
        return []


def _built_at(folder: ImageFolder) -> float:
    return folder.manifest_path.stat().st_mtime


def _last_needed(folder: ImageFolder) -> float:
    launched_at = folder.launched_at()
    return _built_at(folder) if launched_at is None else launched_at


def _awaits_launch(folder: ImageFolder, grace_seconds: float) -> bool:
    age_seconds = time.time() - _built_at(folder)  # noqa: TID251 - of a file on this host
    return folder.launched_at() is None and age_seconds < grace_seconds

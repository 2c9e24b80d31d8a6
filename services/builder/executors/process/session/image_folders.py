"""The images of this machine: the one to launch, those in use, and those to evict when all are too large."""

import json
import time
from pathlib import Path

from services.builder.executors.process.session.bases import finished_bases
from services.builder.executors.process.session.layout import ImageFolder, Layout, remove_tree
from services.builder.executors.process.session.processes import Identity


def find(layout: Layout, image: str, *, has_overlays: bool) -> ImageFolder | None:
    """Return the newest finished folder of an image that can be launched here; None if there is none."""
    for folder in layout.images_of(image):
        manifest = folder.manifest()
        if manifest and (has_overlays or not manifest.is_layered):
            return folder
    return None


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


def evict(layout: Layout, *, max_bytes: int, grace_seconds: float = 600, base_max_age_seconds: float = 0) -> list[str]:
    """Remove the least recently launched images until the rest fits into `max_bytes`; return their build ids.

    Their bases count too. Those that no image needs are removed if they are older than `base_max_age_seconds`, or if
    there is no room for them.
    Half-built folders without a living session are removed as well, and so are folders whose removal was interrupted.
    Images in use stay, and so does an image that was built less than `grace_seconds` ago and never launched. Blocks.
    """
    evicted: list[str] = []
    with layout.images_locked():
        removals = list(layout.images.glob(".removed-*"))
        folders = [ImageFolder(path) for path in layout.images.iterdir() if not path.name.startswith(".")]

        used = in_use(layout)
        sizes: dict[str, int] = {}
        base_names: dict[str, str | None] = {}
        for folder in folders:
            if manifest := folder.manifest():
                sizes[folder.build_id] = folder.size_bytes()
                base_names[folder.build_id] = manifest.base
            elif not (
                folder.manifest_path.exists() or folder.build_id in used or layout.build(folder.build_id).is_alive
            ):
                # Half built. A manifest that exists and can't be read may be a newer release's: that folder stays.
                removals += _set_aside(folder)

        bases = finished_bases(layout.bases)
        total = sum(sizes.values()) + sum(manifest.size_bytes for _, manifest in bases)
        finished = [folder for folder in folders if folder.build_id in sizes]
        for folder in sorted(finished, key=_last_needed):
            if total <= max_bytes:
                break
            if folder.build_id in used or _awaits_launch(folder, grace_seconds):
                continue
            total -= sizes[folder.build_id]
            evicted.append(folder.build_id)
            del base_names[folder.build_id]
            removals += _set_aside(folder)

        removals += layout.bases.glob(".removed-*")
        for base, base_manifest in bases:
            is_old = time.time() - base.made_at >= base_max_age_seconds  # noqa: TID251 - of a file on this host
            if base.name not in base_names.values() and (is_old or total > max_bytes):
                removals += base.set_aside()
                total -= base_manifest.size_bytes

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

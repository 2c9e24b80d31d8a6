"""What is done once an image can be launched and nobody waits: its bytecode, its size, and room for the next one."""

import fcntl
import os
import subprocess

from services.builder.executors.process.session.environment import base_environment
from services.builder.executors.process.session.image_folders import evict
from services.builder.executors.process.session.layout import ImageFolder, Layout, remove_tree
from services.builder.executors.process.session.spec import SessionSettings

_LEAST_PRIORITY = 19


def upkeep(layout: Layout, image: ImageFolder, settings: SessionSettings) -> None:
    """Compile an image, if that was left for now, and remove images and bases that there is no more room for.

    Leave the processor to everybody else, and work for one image of this machine at a time. Block until all is done.
    """
    os.nice(_LEAST_PRIORITY)
    with (layout.images / ".upkeep.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest = image.manifest()
        if manifest and manifest.is_layered and settings.compiles_bytecode:
            _compile(image, timeout_seconds=settings.bytecode_timeout_seconds)
        image.size_bytes()
        evict(
            layout,
            max_bytes=settings.max_images_bytes,
            grace_seconds=settings.images_grace_seconds,
            base_max_age_seconds=settings.base_max_age_seconds,
        )


def _compile(image: ImageFolder, *, timeout_seconds: float) -> None:
    """Compile what was installed. Servers that start from then on find the bytecode; those that run have made it."""
    draft = image.path / "bytecode-draft"
    try:
        draft.mkdir()
        # The folder was made by the repository: its own interpreter, and nothing that it has installed, is run.
        command = [str(image.python), "-I", "-S", str(image.runtime / "bytecode.py"), str(image.env), str(draft)]
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=base_environment(os.environ),
            timeout=timeout_seconds,
        )
        draft.rename(image.bytecode)
    except (OSError, subprocess.SubprocessError):  # servers compile for themselves what they need
        remove_tree(draft)

"""Image lookups of the process executor: the image folders of this machine."""

import asyncio
import os
from pathlib import Path

from services.builder.executors.process.session import image_folders
from services.builder.executors.process.session.layout import Layout
from services.builder.images import ExistingImage


class ProcessImages:
    """The image folders under the data folder. A folder has no digest."""

    def __init__(self, data_dir: Path, *, has_overlays: bool) -> None:
        self._data_dir = data_dir
        self._has_overlays = has_overlays
        self._layout = Layout(data_dir)

    async def find(self, image: str) -> ExistingImage | None:
        """Return the image, or None if there is no finished image of this name."""
        folder = await asyncio.to_thread(image_folders.find, self._layout, image, has_overlays=self._has_overlays)
        return ExistingImage() if folder and folder.manifest() else None

    async def health_problem(self) -> str | None:
        """Return why no image could be stored, or None."""
        is_writable = os.access(self._data_dir, os.W_OK)
        return None if is_writable else f"{self._data_dir} can't be written to"

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""

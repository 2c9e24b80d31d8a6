"""The process executor's registry: which images this machine has."""

import asyncio
from pathlib import Path

from services.builder.executors.process.session import image_folders
from services.builder.executors.process.session.layout import Layout, Manifest


class ProcessImages:
    """Answers for the image folders under the data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._layout = Layout(data_dir)

    async def has(self, image: str) -> bool:
        """Whether a finished image of this name is there."""
        return await self.find(image) is not None

    async def find(self, image: str) -> Manifest | None:
        """Return the manifest of the newest finished image of this name; None if there is none."""
        found = await asyncio.to_thread(image_folders.find, self._layout, image)
        return found.manifest() if found else None

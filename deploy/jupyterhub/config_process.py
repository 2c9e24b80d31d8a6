"""Configuration of a hub whose servers are processes of its own user, run from image folders: for one's own machine."""

import os
from typing import Any

from deploy.jupyterhub import configuration
from deploy.jupyterhub.process_spawner import ProcessImageSpawner

_FALSE = {"0", "false", "no", "off", "n", "f"}
"""What the services read as false."""


def configure(c: Any) -> None:
    """Configure a hub to start processes."""
    configuration.configure_servers(c, ProcessImageSpawner)
    c.ProcessImageSpawner.data_dir = str(configuration.data_folder())
    c.ProcessImageSpawner.uses_overlays = os.environ.get("BINDERY_IMAGE_OVERLAYS", "true").lower() not in _FALSE
    # The spawner's deadline comes first, because the spawner can say why a start failed.
    c.ProcessImageSpawner.start_timeout = int(configuration.answer_seconds()) + 20

"""Servers as processes of the hub's own user, from image folders: for one's own machine."""

from typing import Any

from deploy.jupyterhub import configuration
from deploy.jupyterhub.process_spawner import ProcessImageSpawner


def configure(c: Any) -> None:
    """Have a hub start processes."""
    configuration.servers(c, ProcessImageSpawner)
    c.ProcessImageSpawner.data_dir = str(configuration.data_folder())
    # The hub's own deadline only has the last word: the spawner's comes first, since it can say why.
    c.ProcessImageSpawner.start_timeout = int(configuration.answer_seconds()) + 20

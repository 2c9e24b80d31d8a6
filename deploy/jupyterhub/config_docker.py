"""Servers as containers of a Docker engine."""

import os
from typing import Any

from deploy.jupyterhub import configuration
from deploy.jupyterhub.docker_spawner import BinderDockerSpawner


def configure(c: Any) -> None:
    """Have a hub start containers.

    A server asks the hub nothing, so only hub and proxy must reach it: on the engine's `bridge`, by a port of the
    loopback of the engine's machine, which is theirs; on a network of its own, by its address there, so hub and proxy
    are containers of that network, too.
    """
    configuration.containers(c, BinderDockerSpawner)
    c.BinderDockerSpawner.client_kwargs = {
        "base_url": os.environ.get("BINDERY_DOCKER_HOST") or "unix:///var/run/docker.sock"
    }
    c.BinderDockerSpawner.network_name = os.environ.get("BINDERY_SERVERS_NETWORK", "bridge")

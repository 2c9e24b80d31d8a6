"""Configuration of a hub whose servers are containers of a Docker engine."""

import os
import tempfile
from pathlib import Path
from typing import Any

from deploy.jupyterhub import configuration
from deploy.jupyterhub.docker_spawner import BinderDockerSpawner


def configure(c: Any) -> None:
    """Configure a hub to start containers.

    A server sends no requests to the hub, so only hub and proxy must reach it. On the engine's `bridge` they reach it
    at a loopback port of the engine's machine, so they run there. On a network of its own they reach it at its address
    in that network, so they are containers of that network, too.
    """
    configuration.configure_containers(c, BinderDockerSpawner)
    c.BinderDockerSpawner.client_kwargs = {
        "base_url": os.environ.get("BINDERY_DOCKER_HOST") or "unix:///var/run/docker.sock"
    }
    give_login(os.environ.get("BINDERY_DOCKER_AUTH_CONFIG", ""))
    c.BinderDockerSpawner.network_name = os.environ.get("BINDERY_SERVERS_NETWORK", "bridge")


def give_login(config_json: str) -> None:
    """Let the engine's client pull images with the logins in Docker's `config.json`, which it reads from a file."""
    if config_json:
        folder = Path(tempfile.mkdtemp(prefix="docker-config-"))  # for its owner alone
        (folder / "config.json").write_text(config_json)
        os.environ["DOCKER_CONFIG"] = str(folder)

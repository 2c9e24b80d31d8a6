"""Configuration of a hub whose servers are pods, also for the hub of zero-to-jupyterhub (`hub.extraConfig`).

from deploy.jupyterhub import config_kubernetes
config_kubernetes.configure(c)
"""

import os
from typing import Any

from deploy.jupyterhub import configuration
from deploy.jupyterhub.kube_spawner import BinderKubeSpawner


def configure(c: Any) -> None:
    """Configure a hub to start pods. Settings of KubeSpawner that a launch does not need stay as they are."""
    configuration.configure_containers(c, BinderKubeSpawner)
    if namespace := os.environ.get("BINDERY_SERVERS_NAMESPACE"):
        c.BinderKubeSpawner.namespace = namespace
    if owner := os.environ.get("BINDERY_SERVERS_OWNER"):
        c.BinderKubeSpawner.owner_config_map = owner

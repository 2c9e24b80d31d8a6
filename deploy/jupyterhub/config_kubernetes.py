"""Servers as pods of a Kubernetes cluster. Also for the hub of zero-to-jupyterhub, in its `hub.extraConfig`:

from deploy.jupyterhub import config_kubernetes
config_kubernetes.configure(c)
"""

import os
from typing import Any

from deploy.jupyterhub import configuration
from deploy.jupyterhub.kube_spawner import BinderKubeSpawner


def configure(c: Any) -> None:
    """Have a hub start pods. What is configured for KubeSpawner stays; only what no launch could do without is set."""
    configuration.containers(c, BinderKubeSpawner)
    if namespace := os.environ.get("BINDERY_SERVERS_NAMESPACE"):
        c.BinderKubeSpawner.namespace = namespace

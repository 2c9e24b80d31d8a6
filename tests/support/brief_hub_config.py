"""The configuration of a hub that runs `brief_spawner`; the environment says the rest."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parent))
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from brief_spawner import BriefSpawner, NoProxy  # type: ignore[import-not-found]  # as the hub, which runs this, finds it

from deploy.jupyterhub.binder_spawner import BinderSpawnerMixin


class BriefBinderSpawner(BinderSpawnerMixin, BriefSpawner):  # type: ignore[misc]
    """Brief servers with what ours ask for."""


c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['BRIEF_PUBLIC_PORT']}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{os.environ['BRIEF_HUB_PORT']}"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = "null"
c.Authenticator.any_allow_config = True
c.JupyterHub.spawner_class = BriefBinderSpawner if os.environ.get("BRIEF_MIXIN") else BriefSpawner
c.JupyterHub.concurrent_spawn_limit = int(os.environ.get("BRIEF_SPAWN_LIMIT", "100"))
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0.1}
c.Spawner.poll_interval = 1
# The scopes that docs/hubs.md names, and no others.
c.JupyterHub.services = [{"name": "bindery-launcher", "api_token": os.environ["BRIEF_TOKEN"]}]
c.JupyterHub.load_roles = [
    {"name": "bindery-launcher", "services": ["bindery-launcher"], "scopes": ["admin:users", "servers"]},
]

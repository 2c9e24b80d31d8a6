"""The hub of the embedded stack. Everything it is told comes by the environment; see docs/ for the settings.

The proxy is a part of its own and outlives the hub, and so do the servers: a hub that is killed and started again
finds both.
"""

import logging
import os
import sys
from pathlib import Path

import bcrypt

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from deploy.jupyterhub.process_spawner import ProcessImageSpawner

c = get_config()  # type: ignore[name-defined]  # noqa: F821

data = Path(os.environ["BINDERY_DATA_DIR"]).absolute()
state = data / "hub"
state.mkdir(parents=True, exist_ok=True, mode=0o700)
start_timeout_seconds = float(os.environ.get("BINDERY_SERVER_START_TIMEOUT_SECONDS", "120"))

# Where it is

c.JupyterHub.bind_url = os.environ["BINDERY_HUB_BIND_URL"]
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{os.environ['BINDERY_HUB_PORT']}"
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False

# The proxy

password = os.environ["BINDERY_PROXY_API_PASSWORD"]
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.should_start = False
c.TraefikFileProviderProxy.dynamic_config_file = os.environ["BINDERY_PROXY_RULES_FILE"]
c.TraefikFileProviderProxy.traefik_api_url = os.environ["BINDERY_PROXY_API_URL"]
c.TraefikFileProviderProxy.traefik_api_username = os.environ["BINDERY_PROXY_API_USERNAME"]
c.TraefikFileProviderProxy.traefik_api_password = password
# Traefik verifies it at each call, twice and more per launch. It is random and long, so a costly hash protects
# nothing and would slow every launch down.
c.TraefikFileProviderProxy.traefik_api_hashed_password = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()

# Who may do what: nobody logs in; users are made by the launcher and removed by it or by the culler

c.JupyterHub.authenticator_class = "null"
c.Authenticator.any_allow_config = True  # nobody may log in on purpose: no warning about it
c.JupyterHub.services = [
    {"name": "bindery-launcher", "api_token": os.environ["BINDERY_HUB_API_TOKEN"]},
    {"name": "bindery-culler", "api_token": os.environ["BINDERY_CULLER_API_TOKEN"]},
]
c.JupyterHub.load_roles = [
    {"name": "bindery-launcher", "services": ["bindery-launcher"], "scopes": ["admin:users", "servers"]},
    {
        "name": "bindery-culler",
        "services": ["bindery-culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers", "delete:users"],
    },
]

# The servers

c.JupyterHub.spawner_class = ProcessImageSpawner
c.JupyterHub.allow_named_servers = True
c.JupyterHub.active_server_limit = 0
c.JupyterHub.concurrent_spawn_limit = int(os.environ.get("BINDERY_CONCURRENT_SPAWN_LIMIT", "100"))
# How long the call that starts a server waits for it: long enough to answer a malformed request with a 400, short
# enough that the launcher follows the progress of all others.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0.3}
# The hub would warn of each launch for that, and of each server for being a Jupyter Server and not its own.
_EXPECTED = ("is slow to start", "is slow to become responsive", "has no version header")
logging.getLogger("JupyterHub").addFilter(lambda record: not any(one in str(record.msg) for one in _EXPECTED))
c.ProcessImageSpawner.apply_user_options = lambda spawner, options: spawner.apply_binder_options()
c.ProcessImageSpawner.data_dir = str(data)
c.ProcessImageSpawner.cors_allow_origin = os.environ.get("BINDERY_ALLOWED_ORIGINS", "")
c.ProcessImageSpawner.answer_timeout_seconds = start_timeout_seconds
# The hub's own deadline only has the last word: the spawner's comes first, since it can say why.
c.ProcessImageSpawner.start_timeout = int(start_timeout_seconds) + 20
c.ProcessImageSpawner.poll_interval = int(os.environ.get("BINDERY_SERVER_POLL_SECONDS", "10"))

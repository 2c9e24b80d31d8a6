"""The configuration of a hub from values as zero-to-jupyterhub makes it: of the chart's, what ours comes on top of.

The values are the file `values.json` of the working folder, and the token is what the chart would have made.
"""

import json
from pathlib import Path

values = json.loads(Path("values.json").read_text())
singleuser = values["singleuser"]

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub's
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.cookie_secret = b"0" * 32
c.JupyterHub.hub_bind_url = "http://127.0.0.1:8081"
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.auth_token = "of-the-proxy"
c.Spawner.consecutive_failure_limit = 5
c.KubeSpawner.namespace = "hubs"
c.KubeSpawner.start_timeout = 300
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"} | singleuser["extraLabels"]
c.KubeSpawner.mem_guarantee = singleuser["memory"]["guarantee"]
c.KubeSpawner.mem_limit = singleuser["memory"]["limit"]
c.KubeSpawner.image_pull_secrets = singleuser["image"]["pullSecrets"]
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]

c.JupyterHub.services = [
    {"name": name, "api_token": "made-by-the-chart", **service} for name, service in values["hub"]["services"].items()
]
c.JupyterHub.load_roles = [{"name": name, **role} for name, role in values["hub"]["loadRoles"].items()]
for section, settings in values["hub"]["config"].items():
    c[section].update(settings)
for _, text in sorted(values["hub"]["extraConfig"].items()):
    exec(text)  # noqa: S102 - as the chart does

"""Configuration of our own hub: its servers are processes, containers or pods, as BINDERY_SPAWNER says.

BINDERY_HUB_CONFIG_FILE names a file of the operator that is read last and may change everything.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from deploy.jupyterhub import configuration, database_configuration, start_checks, start_refusal

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub defines it

_CONFIGURATIONS = {
    "process": "deploy.jupyterhub.config_process",
    "docker": "deploy.jupyterhub.config_docker",
    "kubernetes": "deploy.jupyterhub.config_kubernetes",
}
spawner = os.environ.get("BINDERY_SPAWNER", "process")
if spawner not in _CONFIGURATIONS:
    sys.exit(f"BINDERY_SPAWNER is {spawner!r}: it is one of {', '.join(_CONFIGURATIONS)}")

configuration.strip_secrets()
if problem := start_checks.start_problem(os.environ):
    start_refusal.refuse(problem)

configuration.configure_hub(c)
database_configuration.configure_database(c)
configuration.configure_traefik(c)
import_module(_CONFIGURATIONS[spawner]).configure(c)

if operator_file := os.environ.get("BINDERY_HUB_CONFIG_FILE"):
    load_subconfig(str(Path(operator_file).absolute()))  # type: ignore[name-defined]  # noqa: F821 - JupyterHub defines it

if problem := database_configuration.database_problem(c):
    start_refusal.refuse(problem)

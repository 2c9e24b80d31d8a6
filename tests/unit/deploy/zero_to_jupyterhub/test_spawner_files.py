"""The spawner's modules in the values: all that the hub needs, and nothing that its image lacks."""

import ast
import sys

from deploy.zero_to_jupyterhub.spawner_files import spawner_files

CHARTS_IMAGE = {
    "aiohttp", "jupyterhub", "kubernetes_asyncio", "kubespawner", "sqlalchemy", "tornado", "traitlets"
}  # fmt: skip
"""Packages of the chart's image of the hub that our modules use."""


def test_what_no_pod_needs_is_left_out() -> None:
    names = {path.removeprefix("deploy/") for path in spawner_files()}
    assert {"__init__.py", "jupyterhub/__init__.py", "jupyterhub/kube_spawner.py", "jupyterhub/labels.py"} <= names
    assert names.isdisjoint(
        f"jupyterhub/{other}.py"
        for other in ("database", "docker_spawner", "jupyterhub_config", "process_spawner", "proxy", "service_tokens")
    )


def test_every_package_that_the_modules_import_is_in_the_charts_image() -> None:
    imported = set()
    for text in spawner_files().values():
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom) and statement.module:
                imported.add(statement.module.partition(".")[0])
    assert imported - sys.stdlib_module_names - {"deploy"} <= CHARTS_IMAGE


def test_no_file_is_empty() -> None:
    """The chart takes an empty file for one that was forgotten, and refuses it."""
    assert [path for path, text in spawner_files().items() if not text.strip()] == []

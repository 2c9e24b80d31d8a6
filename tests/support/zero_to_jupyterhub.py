"""The values of a release as their reader has them, and the hub's files where the chart mounts them."""

from pathlib import Path
from typing import Any

import yaml

from deploy.zero_to_jupyterhub.options import Options
from deploy.zero_to_jupyterhub.values import values_text

OPTIONS: dict[str, Any] = {
    "namespace": "hubs",
    "bindery_namespace": "binder",
    "allowed_origins": "https://a.example,https://b.example",
    "idle_timeout_seconds": 300,
    "max_age_seconds": 7200,
    "memory_guarantee": "256M",
    "memory_limit": "1G",
    "start_timeout_seconds": 60,
    "start_max_seconds": 900,
    "concurrent_spawns": 50,
    "image_pull_secrets": (),
    "token_secret": "",
}


def values_of(**changes: object) -> Any:
    """Return the values that options make."""
    return yaml.safe_load(values_text(Options(**OPTIONS | changes)))


def head_of(**changes: object) -> str:
    """Return the comments at the beginning of the values' text, without their marks."""
    text = values_text(Options(**OPTIONS | changes))
    lines = text.partition("\n\n")[0].splitlines()
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)


def mount(values: Any, root: Path) -> None:
    """Write the hub's files below `root` as the chart mounts them in the hub's container."""
    for file in values["hub"]["extraFiles"].values():
        path = root / file["mountPath"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["stringData"], encoding="utf-8")

"""Resources that a launch grants its server, from `user_options.bindery_resources`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TRAITS = {
    "memory_guarantee": "mem_guarantee",
    "memory_limit": "mem_limit",
    "cpu_guarantee": "cpu_guarantee",
    "cpu_limit": "cpu_limit",
}


@dataclass(frozen=True)
class Resources:
    """Values of the spawner's traits, in bytes and cores; a trait that is absent keeps its configured value."""

    traits: Mapping[str, int | float]
    gpus: int = 0


def read_resources(options: Mapping[str, Any]) -> Resources:
    """Return the resources in a launch's options. Raise `ValueError` that names the invalid one."""
    resources = options.get("bindery_resources") or {}
    if not isinstance(resources, dict):
        raise ValueError("user_options.bindery_resources is not an object")
    if unknown := sorted(resources.keys() - _TRAITS.keys() - {"gpus"}):
        raise ValueError(f"user_options.bindery_resources has an unknown key: {unknown[0]}")

    for name, value in resources.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 2**63 or (name != "gpus" and not value):
            raise ValueError(f"user_options.bindery_resources.{name} is not a number above zero: {value!r}")

    traits = {
        trait: int(resources[name]) if name.startswith("memory") else float(resources[name])
        for name, trait in _TRAITS.items()
        if name in resources
    }
    return Resources(traits, gpus=int(resources.get("gpus", 0)))

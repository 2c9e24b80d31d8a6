"""What a launch says that its server may use: `user_options.bindery_resources`."""

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
    """The spawner's traits that a launch sets, in bytes and cores; what is absent stays as it is configured."""

    traits: Mapping[str, int | float]
    gpus: int = 0


def read_resources(options: Mapping[str, Any]) -> Resources:
    """Return what a launch asks for. Raises `ValueError`, naming what is wrong with it."""
    asked = options.get("bindery_resources") or {}
    if not isinstance(asked, dict):
        raise ValueError("user_options.bindery_resources is no object")
    if unknown := sorted(asked.keys() - _TRAITS.keys() - {"gpus"}):
        raise ValueError(f"user_options.bindery_resources has an unknown key: {unknown[0]}")
    for name, value in asked.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 2**63 or (name != "gpus" and not value):
            raise ValueError(f"user_options.bindery_resources.{name} is not a number above zero: {value!r}")
    traits = {
        trait: int(asked[name]) if name.startswith("memory") else float(asked[name])
        for name, trait in _TRAITS.items()
        if name in asked
    }
    return Resources(traits, int(asked.get("gpus", 0)))

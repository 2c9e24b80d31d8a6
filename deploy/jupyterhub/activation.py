"""The activation of an image's conda environment, which its build recorded: the hub runs none of the scripts."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def activated(env: Mapping[str, str], image: Path) -> dict[str, str]:
    """Return `env` as it is in the environment of the image folder `image`; unchanged if that is none of conda.

    The builder's `session/conda/activation.py` describes the file. Raise `OSError` or `ValueError` if it is not
    readable.
    """
    try:
        activation = json.loads((image / "activation.json").read_bytes())
    except FileNotFoundError:
        return dict(env)

    path: list[str] = activation["path"]
    variables: dict[str, str] = activation["variables"]
    kept = {name: value for name, value in env.items() if name not in activation["removed"]}
    others = [part for part in env.get("PATH", "").split(os.pathsep) if part and part not in path]
    return kept | variables | {"PATH": os.pathsep.join([*path, *others])}

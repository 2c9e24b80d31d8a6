"""Becoming a server of an image: places and variables first, then the start script and Jupyter."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .copies import copy_tree
from .overlays import Overlay, OverlaysRefusedError, unshare_mounts
from .relocation import Moves, relocate
from .variables import activated, image_variables, read_activation

REFUSED = 71
"""Exit status if the image needs overlays and the system refuses them: EX_OSERR of sysexits.h."""


_OURS = ("BINDER", "JUPYTER")
"""Variables of the launch begin so; no activation changes them."""


@dataclass(frozen=True)
class Places:
    """Where a server finds its environment and its repository: folders that no other server sees."""

    env: Path
    repo: Path


def serve(server: Path, arguments: Sequence[str]) -> NoReturn:
    """Become the server that has the folder `server`, with arguments for Jupyter. Exit with `REFUSED` if that fails.

    The image is the folder in which this package lies. What the image's manifest says of it: `is_layered`, `base`,
    `program`, `start` and `variables` (`Manifest` of the builder).
    """
    image = Path(__file__).resolve().parents[1]
    manifest = json.loads((image / "image.json").read_text())
    if manifest["is_layered"]:
        try:
            places = _mount(image, manifest, server)
        except OverlaysRefusedError as error:
            sys.stderr.write(f"The image needs overlays, and this system refuses {error}\n")
            sys.exit(REFUSED)
    else:
        places = _copy(image, server)

    variables = activated(image_variables(os.environ, env=places.env, repo=places.repo), _activation(image, places))
    variables |= {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    command = [str(places.env / "bin" / manifest["program"]), *arguments]
    if manifest["start"]:
        # By a shell: the system runs no script without a first line, and a shell does.
        command = ["/bin/sh", "-c", 'exec "$0" "$@"', str(places.repo / manifest["start"]), *command]
    os.chdir(places.repo)
    os.execve(command[0], command, variables)  # noqa: S606 -- the arguments are no shell's


def _mount(image: Path, manifest: dict[str, Any], server: Path) -> Places:
    """Give the server overlays at the image's own places, so that each path that a build wrote down is true."""
    unshare_mounts()
    places = Places(image / "env", image / "repo")
    for name, lowers in (("env", env_lowers(image, manifest["base"])), ("repo", [places.repo])):
        layer = server / "layers" / name
        Overlay(at=image / name, lowers=lowers, changes=layer / "changes", work=layer / "work").mount()
    return places


def env_lowers(image: Path, base: str | None) -> list[Path]:
    """Return the folders that are an image's environment, one over the other, the uppermost first."""
    lowers = [image / "env-changes", image / "bytecode", image / "env"]
    if base:
        lowers.append(image.parents[1] / "bases" / base / "env")
    return [folder for folder in lowers if folder.is_dir()]


def _activation(image: Path, places: Places) -> dict[str, Any]:
    """Return the activation of the image's environment, which leads to the places of this server."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        if isinstance(value, list):
            return [moved(part) for part in value]
        return str(value).replace(str(image / "env"), str(places.env)).replace(str(image / "repo"), str(places.repo))

    activation: dict[str, Any] = moved(read_activation(image))
    return activation


def _copy(image: Path, server: Path) -> Places:
    """Give the server copies, in which paths of the image lead to the copies."""
    places = Places(server / "env", server / "repo")
    copies = {image / "env": places.env, image / "repo": places.repo}
    moves = Moves(copies)
    for source, target in copies.items():
        copy_tree(source, target, left_out=lambda line: sys.stderr.write(f"{line}\n"), link=moves.link)
    relocate(places.env, places.repo, moves)
    return places

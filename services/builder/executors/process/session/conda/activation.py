"""What activating an environment changes, recorded once: its scripts are bash, and servers are started without one."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.programs import run_program

_SCRIPT = """
trap 'env -0 > "$2"' EXIT
for script in "$1"/etc/conda/activate.d/*.sh; do
    if [ -e "$script" ]; then . "$script"; fi
done
"""
_OF_THE_SHELL = {"_", "PWD", "OLDPWD", "SHLVL", "PATH"}


class Activation(BaseModel):
    """The changes of an environment's activation, which `image_runtime` applies.

    `path` comes before the PATH that is there, the environment's own `bin` first. `variables` replace those of the
    same name, and `removed` are taken away.
    """

    model_config = ConfigDict(frozen=True)

    path: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    removed: tuple[str, ...] = ()


async def record_activation(
    environment: CondaEnvironment,
    *,
    prefix: Path,
    env: Mapping[str, str],
    folder: Path,
    log: BuildLog,
    timeout_seconds: float,
    max_line_bytes: int,
) -> Activation:
    """Run the activate scripts of the packages in `prefix` on top of `env`, in bash, and return what they changed.

    `env` is what the repository's scripts would see without them; a VIRTUAL_ENV in it goes. `folder` is this build's.
    Values that a script made of others in `env` stay as they were made here.

    Raise `StepError` if a script keeps the shell from ending, or takes longer than `timeout_seconds`.
    """
    outer = {name: value for name, value in env.items() if name != "VIRTUAL_ENV"}
    path = outer.get("PATH", os.defpath).split(os.pathsep)
    own = str(prefix / "bin")
    inner = outer | _of_conda(environment, prefix) | dict(environment.variables)
    inner["PATH"] = os.pathsep.join([own, *(part for part in path if part != own)])

    result = folder / "environment"
    result.unlink(missing_ok=True)
    await run_program(
        ["bash", "--noprofile", "--norc", "-c", _SCRIPT, "activate", str(prefix), str(result)],
        name="The activation of the conda environment",
        log=log,
        env=inner,
        cwd=prefix,
        timeout_seconds=timeout_seconds,
        max_line_bytes=max_line_bytes,
    )
    after = _read(result)
    if not after:
        raise build_failed("An activate script of the conda environment left no environment behind")

    removed = [name for name in env if name not in after and name not in _OF_THE_SHELL]
    return Activation(
        path=tuple(
            part for part in after.get("PATH", "").split(os.pathsep) if part and (part not in path or part == own)
        ),
        variables={
            name: value for name, value in after.items() if name not in _OF_THE_SHELL and outer.get(name) != value
        },
        removed=tuple(sorted(removed)),
    )


def _of_conda(environment: CondaEnvironment, prefix: Path) -> dict[str, str]:
    """Return what `conda activate` sets. Source: conda's documentation of activation."""
    return {
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": environment.name or str(prefix),
        "CONDA_SHLVL": "1",
        "CONDA_PROMPT_MODIFIER": "",
    }


def _read(path: Path) -> dict[str, str]:
    """Return the variables that are text; a function that bash exports is none."""
    try:
        entries = path.read_bytes().split(b"\0")
    except FileNotFoundError:
        return {}

    variables = {}
    for entry in entries:
        try:
            name, mark, value = entry.decode().partition("=")
        except UnicodeDecodeError:
            continue
        if mark and not name.startswith("BASH_FUNC_"):
            variables[name] = value
    return variables

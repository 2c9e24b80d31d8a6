"""Finding the Python that a repository asks for."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.programs import output_of, run_program

_FIND_TIMEOUT_SECONDS = 60


async def find(
    requested: str | None,
    *,
    default: str | None,
    uv: str,
    env: Mapping[str, str],
    log: BuildLog,
    folder: Path,
    timeout_seconds: float,
    max_line_bytes: int,
) -> str:
    """Return the interpreter for `requested`: the default if it fits, else an installed one, else a downloaded one.

    `requested` is a version or version specifiers (PEP 440); None takes the default.

    Raise `StepError`: `python_unavailable`, naming the installed versions, or `build_timeout`.
    """
    preferred = default or sys.executable
    is_path = Path(preferred).is_absolute()
    if requested is None:
        return preferred if is_path else await _require(preferred, uv=uv, env=env)

    if is_path:
        only_preferred = dict(env) | {"PATH": str(Path(preferred).parent), "UV_PYTHON_PREFERENCE": "only-system"}
        if await _find(requested, uv=uv, env=only_preferred):
            return preferred

    if installed := await _find(requested, uv=uv, env=env):
        return installed

    if env.get("UV_PYTHON_DOWNLOADS") == "automatic":
        log.write("building", f"Python {requested} is not installed: looking for one to download")
        command = [uv, "python", "install", "--", requested]
        await run_program(
            command,
            name="The download of Python",
            log=log,
            env=env,
            cwd=folder,
            timeout_seconds=timeout_seconds,
            max_line_bytes=max_line_bytes,
        )
    return await _require(requested, uv=uv, env=env)


async def _require(requested: str, *, uv: str, env: Mapping[str, str]) -> str:
    if path := await _find(requested, uv=uv, env=env):
        return path

    output = await output_of(
        [uv, "python", "list", "--only-installed", "--output-format", "json"],
        env=env,
        timeout_seconds=_FIND_TIMEOUT_SECONDS,
    )
    versions = {str(python["version"]) for python in json.loads(output or "[]") if python.get("path")}
    installed = ", ".join(sorted(versions, key=_version_key)) or "none that uv can find"
    raise StepError(
        "python_unavailable",
        f"The repository asks for Python {requested}, which is not installed here and could not be downloaded. "
        f"Installed: {installed}",
    )


async def _find(requested: str, *, uv: str, env: Mapping[str, str]) -> str | None:
    # In the root folder: uv reads a .python-version or a virtual environment of each folder on the way up.
    command = [uv, "python", "find", "--no-project", "--no-python-downloads", "--directory", "/", "--", requested]
    path = await output_of(command, env=env, timeout_seconds=_FIND_TIMEOUT_SECONDS)
    if not path:
        return None
    return path.strip() or None


def _version_key(version: str) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in version.split(".")]

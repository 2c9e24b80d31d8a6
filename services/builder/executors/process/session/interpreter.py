"""Finding the Python that a repository asks for, or saying which ones there are."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.programs import output_of, run

_FIND_TIMEOUT_SECONDS = 60


async def find(
    wish: str | None,
    *,
    default: str | None,
    uv: str,
    env: Mapping[str, str],
    log: BuildLog,
    folder: Path,
    timeout_seconds: float,
    max_line_bytes: int,
) -> str:
    """Return the interpreter for `wish`: the default if that fits, else an installed one, else a downloaded one.

    Raises `StepError`: `python_unavailable`, naming those that are installed, or `build_timeout`.
    """
    ours = default or sys.executable
    if wish is None:
        return ours if Path(ours).is_absolute() else await _require(ours, uv=uv, env=env)
    if Path(ours).is_absolute():
        only_ours = dict(env) | {"PATH": str(Path(ours).parent), "UV_PYTHON_PREFERENCE": "only-system"}
        if await _find(wish, uv=uv, env=only_ours):
            return ours
    if found := await _find(wish, uv=uv, env=env):
        return found
    if env.get("UV_PYTHON_DOWNLOADS") == "automatic":
        log.write("building", f"Python {wish} is not installed: looking for one to download")
        command = [uv, "python", "install", "--", wish]
        await run(
            command,
            name="The download of Python",
            log=log,
            env=env,
            cwd=folder,
            timeout_seconds=timeout_seconds,
            max_line_bytes=max_line_bytes,
        )
    return await _require(wish, uv=uv, env=env)


async def _require(wish: str, *, uv: str, env: Mapping[str, str]) -> str:
    if found := await _find(wish, uv=uv, env=env):
        return found
    listed = await output_of(
        [uv, "python", "list", "--only-installed", "--output-format", "json"],
        env=env,
        timeout_seconds=_FIND_TIMEOUT_SECONDS,
    )
    versions = {str(one["version"]) for one in json.loads(listed or "[]") if one.get("path")}
    there = ", ".join(sorted(versions, key=_order)) or "none that uv can find"
    raise StepError(
        "python_unavailable",
        f"The repository asks for Python {wish}, which is neither installed here nor to be downloaded. "
        f"Installed are: {there}",
    )


async def _find(wish: str, *, uv: str, env: Mapping[str, str]) -> str | None:
    # In the root folder, since a .python-version or a virtual environment on the way up would be looked at.
    command = [uv, "python", "find", "--no-project", "--no-python-downloads", "--directory", "/", "--", wish]
    found = await output_of(command, env=env, timeout_seconds=_FIND_TIMEOUT_SECONDS)
    return found.strip() or None if found else None


def _order(version: str) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in version.split(".")]

"""Installing a conda environment, by a process of its own that ends with its deadline."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

import services
from services.builder.executors.process.session.conda.channels import resolve
from services.builder.executors.process.session.conda.job import CondaJob, CondaOutcome
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.layout import write_atomically
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.programs import run_program
from services.builder.executors.process.session.spec import SessionSettings

_CHECKOUT = Path(services.__path__[0]).parent
_MODULE = "services.builder.executors.process.session.conda"
_VERSION = re.compile(r"([0-9]+\.[0-9]+)(\.[0-9]+)?")
_KERNEL_OF_R = "r-irkernel"


async def install_conda(
    environment: CondaEnvironment,
    *,
    prefix: Path,
    cache: Path,
    folder: Path,
    settings: SessionSettings,
    env: Mapping[str, str],
    log: BuildLog,
) -> bool:
    """Install an environment into `prefix`, which is made; return whether Jupyter came with it.

    It did not if the channels lack it: then it must come from a package index. `cache` is shared by builds, `folder`
    is this one's alone. `env` is the environment of the process; its HOME is empty.

    Raise `StepError`.
    """
    job = await job_of(environment, prefix=prefix, cache=cache, folder=folder, settings=settings)
    write_atomically(folder / "job.json", job.model_dump_json())

    name = "The installation of the conda environment"
    status = await run_program(
        [sys.executable, "-m", _MODULE, str(folder / "job.json")],
        name=name,
        log=log,
        env=env,
        cwd=_CHECKOUT,
        timeout_seconds=settings.install_timeout_seconds,
        max_line_bytes=settings.max_line_bytes,
    )
    outcome = _outcome(job.outcome)
    if outcome is None:
        ending = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise StepError("build_failed", f"{name} {ending}")
    if outcome.code:
        raise StepError(outcome.code, outcome.message)

    _write_state(prefix, environment)
    if outcome.has_base and settings.compiles_bytecode:
        await _compile(prefix, settings=settings, env=env, log=log)
    return outcome.has_base


async def _compile(prefix: Path, *, settings: SessionSettings, env: Mapping[str, str], log: BuildLog) -> None:
    """Compile the packages that came without bytecode, as conda does: each server would do it for itself.

    What can't be compiled, a template for instance, stays as it is. Raise `StepError` if it takes too long.
    """
    folders = [str(folder) for folder in prefix.glob("lib/python3*/site-packages")]
    await run_program(
        [str(prefix / "bin" / "python"), "-I", "-m", "compileall", "-q", "-q", "-j", "0", *folders],
        name="The compilation of the conda environment",
        log=log,
        env=env,
        cwd=prefix,
        timeout_seconds=settings.install_timeout_seconds,
        max_line_bytes=settings.max_line_bytes,
    )


async def job_of(
    environment: CondaEnvironment, *, prefix: Path, cache: Path, folder: Path, settings: SessionSettings
) -> CondaJob:
    """Return what `install_conda` hands over. Raise `StepError` for a channel that may not be used."""
    channels = await resolve(environment, settings)
    return CondaJob(
        file=environment.file,
        channels=channels.urls,
        dependencies=(*channels.dependencies, *_kernel_of_r(environment)),
        default_python=None if environment.python else _default_python(settings.default_python),
        base=settings.conda_base_packages,
        prefix=prefix,
        cache=cache,
        outcome=folder / "outcome.json",
        is_offline=settings.conda_offline,
        index_timeout_seconds=settings.conda_index_timeout_seconds,
        solve_timeout_seconds=settings.conda_solve_timeout_seconds,
        download_max_bytes=settings.conda_download_max_bytes,
        cache_max_bytes=settings.conda_cache_max_bytes,
    )


def _default_python(setting: str | None) -> str:
    """Return the version for environments that name none: the operator's, or else that of this process."""
    match = _VERSION.fullmatch(setting or "")
    return match[1] if match else f"{sys.version_info.major}.{sys.version_info.minor}"


def _kernel_of_r(environment: CondaEnvironment) -> tuple[str, ...]:
    """Return R's kernel, which repo2docker adds as well, unless the file names it."""
    names_it = any(dependency.startswith(_KERNEL_OF_R) for dependency in environment.dependencies)
    return (_KERNEL_OF_R,) if environment.uses_r and not names_it else ()


def _outcome(path: Path) -> CondaOutcome | None:
    try:
        return CondaOutcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write_state(prefix: Path, environment: CondaEnvironment) -> None:
    """Write the file in which conda keeps an environment's variables, for a conda that is used in it later."""
    if environment.variables:
        state = {"version": 1, "env_vars": dict(environment.variables)}
        write_atomically(prefix / "conda-meta" / "state", json.dumps(state))

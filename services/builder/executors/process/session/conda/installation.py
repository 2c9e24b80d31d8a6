"""The story of an installation, in the process of its own: solve, download, link. It needs py-rattler."""

import asyncio
import json
import math
import resource
import sys
from pathlib import Path

import rattler
from rattler import exceptions

from services.builder.executors.process.session.conda.cache import in_use, packages_folder, repodata_folder
from services.builder.executors.process.session.conda.job import CondaJob, CondaOutcome
from services.builder.executors.process.session.conda.linking import Cache, Progress
from services.builder.executors.process.session.conda.sentences import first_sentence, no_solution
from services.builder.executors.process.session.conda.solving import Solution, Solver
from services.builder.executors.process.session.conda.talking import blanked, say, take_credentials
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.layout import write_atomically

_CONFIGURATION = """
tls-root-certs = "system"
allow-hard-links = false
allow-ref-links = true
allow-symbolic-links = true
"""
# A hard link would let a server write into the cache, and so into all other environments. The symbolic links that are
# allowed are the packages' own; py-rattler copies what the file system can't clone.


def main(arguments: list[str]) -> int:
    """Install the environment of a job file; its outcome is a file as well. Return 0 if the environment is there."""
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    job = CondaJob.model_validate_json(Path(arguments[0]).read_bytes())
    _limit_files(job.download_max_bytes)

    outcome = asyncio.run(install(job))
    outcome = outcome.model_copy(update={"message": blanked(outcome.message)})
    write_atomically(job.outcome, outcome.model_dump_json())
    return 1 if outcome.code else 0


def _limit_files(max_bytes: int) -> None:
    """See to it that no file of a channel is longer, whatever its index says."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def install(job: CondaJob) -> CondaOutcome:
    """Install the environment of a job, and say what happens line by line."""
    # What follows starts the packages' own scripts, which need not know where credentials are.
    credentials = take_credentials()
    client = _client(credentials)
    index_client = _client(credentials, timeout_seconds=job.index_timeout_seconds)

    try:
        with in_use(job.cache, max_bytes=job.cache_max_bytes):
            config = rattler.SourceConfig(cache_action="force-cache-only" if job.is_offline else "cache-or-fetch")
            gateway = rattler.Gateway(repodata_folder(job.cache), config, client=index_client)
            solution = await Solver(job, gateway).solve()
            await _link(job, solution, client)
    except StepError as error:
        return CondaOutcome.failed(error.message, error.code)
    except exceptions.SolverError as error:
        return _failed(f"{job.file} can't be solved: {no_solution(str(error))}", error)
    except exceptions.GatewayError as error:
        return _failed(f"A channel of {job.file} can't be read: {first_sentence(str(error))}", error)
    except (exceptions.InstallerError, exceptions.TransactionError, exceptions.LinkError, OSError) as error:
        return _failed(f"The packages of {job.file} can't be installed: {first_sentence(str(error))}", error)
    return CondaOutcome(has_base=solution.has_base)


def _failed(message: str, error: Exception) -> CondaOutcome:
    for line in str(error).strip().splitlines():
        say(line)
    return CondaOutcome.failed(message)


async def _link(job: CondaJob, solution: Solution, client: rattler.Client) -> None:
    cache = Cache(packages_folder(job.cache))
    missing = await cache.missing(solution.records)
    _report(solution, missing)
    _check_size(job, solution)
    if missing and job.is_offline:
        raise StepError(
            "build_failed",
            f"{job.file}: {_name(missing[0])} is not in the cache, and BINDERY_CONDA_OFFLINE forbids to fetch it",
        )

    # Its methods may be left out: they are empty, which makes them abstract to mypy.
    progress = Progress(  # type: ignore[abstract]
        solution.records, max_bytes=job.download_max_bytes, outcome=job.outcome
    )
    await rattler.install(
        solution.records,
        job.prefix,
        installed_packages=[],
        package_cache=cache.packages,
        client=client,
        config=rattler.Config.from_toml(_CONFIGURATION),
        execute_link_scripts=True,
        reporter=progress,
    )
    cache.touch(solution.records)
    say(f"Installed {len(solution.records)} packages")


def _report(solution: Solution, missing: list[rattler.RepoDataRecord]) -> None:
    for record in sorted(solution.records, key=lambda record: record.name.normalized):
        say(f"  {_name(record)}")
    megabytes = sum(record.size or 0 for record in missing) / 1e6
    say(f"{len(solution.records)} packages, of which {len(missing)} are to be downloaded ({megabytes:.0f} MB)")


def _check_size(job: CondaJob, solution: Solution) -> None:
    size = sum(record.size or 0 for record in solution.records)
    if size > job.download_max_bytes:
        raise StepError(
            "build_failed",
            f"{job.file}: its packages have {size / 1e6:.0f} MB, more than the {job.download_max_bytes / 1e6:.0f} MB "
            "allowed here (BINDERY_CONDA_DOWNLOAD_MAX_BYTES)",
        )


def _name(record: rattler.RepoDataRecord) -> str:
    return f"{record.name.normalized} {record.version} {record.build}"


def _client(credentials: str | None, *, timeout_seconds: float | None = None) -> rattler.Client:
    """Return a client; a timeout is for each request as a whole, so a large package must have none."""
    configuration = _CONFIGURATION
    if credentials:
        configuration += f"authentication-override-file = {json.dumps(credentials)}\n"
    timeout = None if timeout_seconds is None else math.ceil(timeout_seconds)
    return rattler.Client.from_config(rattler.Config.from_toml(configuration), timeout=timeout)

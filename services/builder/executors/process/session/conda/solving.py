"""Which packages an environment consists of: from the strictest reading of its file to the most lenient."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import rattler
from rattler import exceptions

from services.builder.executors.process.session.conda.job import CondaJob
from services.builder.executors.process.session.conda.talking import say
from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.plan.refusals import quoted

_STRICT = rattler.ChannelPriority.Strict
_DISPENSABLE = {"conda"}
"""Packages of the base without which an environment is still one: conda comes late for a new Python."""
_CANCELLED = "cancelled"
_ANY_CHANNEL = rattler.ChannelPriority.Disabled


@dataclass(frozen=True)
class Solution:
    """The packages; `has_base` tells whether Jupyter is among them because it was asked for."""

    records: list[rattler.RepoDataRecord]
    has_base: bool


@dataclass(frozen=True)
class _Reading:
    """One reading of a file; `note` says what it insists on."""

    specs: list[rattler.MatchSpec]
    priority: rattler.ChannelPriority
    note: str


class Solver:
    """Solves one job."""

    def __init__(self, job: CondaJob, gateway: rattler.Gateway) -> None:
        self._job = job
        self._gateway = gateway
        self._channels = [rattler.Channel(url) for url in job.channels]
        self._platforms = [rattler.Subdir.current(), rattler.Subdir("noarch")]

    async def solve(self) -> Solution:
        """Return the first solution.

        Raise `StepError` for a dependency that is none, and if a solution takes too long; `SolverError`, and
        `GatewayError` for a channel that can't be read.
        """
        job = self._job
        asked = [_spec(text, job.file) for text in job.dependencies]
        base = await self._base()
        say(f"Solving {job.file} with {', '.join(job.channels)}")

        *readings, last = self._readings(asked, base)
        for reading in readings:
            try:
                return Solution(await self._solve(reading), has_base=bool(base))
            except exceptions.SolverError:
                say(f"There is no solution {reading.note}: looking for another one")
        return Solution(await self._solve(last), has_base=bool(base))

    def _readings(self, asked: list[rattler.MatchSpec], base: list[rattler.MatchSpec]) -> Iterator[_Reading]:
        job = self._job
        if job.default_python:
            python = rattler.MatchSpec(f"python {job.default_python}.*")
            yield _Reading(
                [*asked, *base, python], _STRICT, f"with Python {job.default_python}, the default for repositories"
            )
            asked = [*asked, rattler.MatchSpec("python")]
        necessary = [spec for spec in base if _name(spec) not in _DISPENSABLE]
        if necessary != base:
            yield _Reading([*asked, *base], _STRICT, f"with {', '.join(sorted(_DISPENSABLE))} in the environment")
        yield _Reading([*asked, *necessary], _STRICT, "with each package from the first channel that has it")
        if len(job.channels) > 1:
            yield _Reading([*asked, *necessary], _ANY_CHANNEL, "with packages from any channel")

    async def _base(self) -> list[rattler.MatchSpec]:
        """Return the specifications of Jupyter if the channels have all of it; an empty list otherwise.

        conda is left out if it is all that is missing.
        """
        base = [_spec(text, "BINDERY_CONDA_BASE_PACKAGES") for text in self._job.base]
        if not base:
            return []

        found = await self._gateway.query(self._channels, self._platforms, base, recursive=False)
        names = {record.name.normalized for records in found for record in records}
        missing = {_name(spec) for spec in base} - names
        if missing <= _DISPENSABLE:
            return [spec for spec in base if _name(spec) not in missing]
        say(f"The channels have no {', '.join(sorted(missing))}: Jupyter comes from the package index")
        return []

    async def _solve(self, reading: _Reading) -> list[rattler.RepoDataRecord]:
        try:
            return await rattler.solve(
                self._channels,
                reading.specs,
                self._gateway,
                platforms=self._platforms,
                virtual_packages=rattler.VirtualPackage.detect(),
                channel_priority=reading.priority,
                timeout=timedelta(seconds=self._job.solve_timeout_seconds),
            )
        except exceptions.SolverError as error:
            if _CANCELLED in str(error).lower():
                raise self._too_slow() from error
            raise

    def _too_slow(self) -> StepError:
        seconds = self._job.solve_timeout_seconds
        return StepError(
            "build_timeout",
            f"{self._job.file} was not solved within {seconds:g} seconds: pin versions more narrowly",
        )


def _spec(text: str, place: str) -> rattler.MatchSpec:
    try:
        return rattler.MatchSpec(text)
    except (exceptions.InvalidMatchSpecError, exceptions.InvalidChannelError) as error:
        raise build_failed(f"{place}: {quoted(text)} is not a package as conda understands it: {error}") from None


def _name(spec: rattler.MatchSpec) -> str:
    return spec.name.normalized if spec.name else ""

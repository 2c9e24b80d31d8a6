"""Installations of conda environments as a build does them, without the rest of a build."""

import contextlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.builder.executors.process.session.conda.install import install_conda, job_of
from services.builder.executors.process.session.conda.installation import install
from services.builder.executors.process.session.environment import conda_environment
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from tests.support.conda_channel import ChannelServer, CondaPackage, make_channel
from tests.support.sample_builds import QUICK


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An installation that has ended: the environment, the log, and how it failed if it did."""

    prefix: Path
    text: str
    has_base: bool = False
    code: str | None = None
    message: str = ""

    @property
    def packages(self) -> dict[str, str]:
        """The versions of the packages that are there, by name."""
        records = [json.loads(path.read_text()) for path in self.prefix.glob("conda-meta/*.json")]
        return {record["name"]: record["version"] for record in records}


class Installs:
    """Installs one environment after another below `folder`, with a shared cache and the channels of `server`."""

    def __init__(self, folder: Path, server: ChannelServer) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.server = server
        self.settings = QUICK.model_copy(
            update={
                "conda_channel_alias": server.url,
                "conda_default_channels": ("main",),
                "conda_defaults": (f"{server.url}/anaconda",),
                "conda_base_packages": (),
            }
        )
        self._count = 0

    def channel(self, name: str, packages: Iterable[CondaPackage], **tells: object) -> None:
        """Make a channel; `tells` is what its index says in the place of the truth."""
        make_channel(self.server.folder / name, packages, tells=tells)

    async def install(self, *dependencies: str, channels: tuple[str, ...] = (), **settings: object) -> Installed:
        """Install what a file names, in this process; `settings` are those of the session."""
        environment = CondaEnvironment(file="environment.yml", dependencies=dependencies, channels=channels)
        return await self.install_environment(environment, **settings)

    async def install_environment(self, environment: CondaEnvironment, **settings: object) -> Installed:
        """Install an environment in this process."""
        place = self._place()
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            job = await job_of(
                environment,
                prefix=place / "env",
                cache=self.cache,
                folder=place / "inputs",
                settings=self.settings.model_copy(update=settings),
            )
            outcome = await install(job)
        return Installed(
            prefix=place / "env",
            text=output.getvalue(),
            has_base=outcome.has_base,
            code=outcome.code,
            message=outcome.message,
        )

    async def install_as_a_build(self, environment: CondaEnvironment, **settings: object) -> Installed:
        """Install an environment by the process that a build starts, with its environment and its log."""
        place = self._place()
        (place / "home").mkdir()
        log = BuildLog(place / "log", max_line_bytes=10_000, max_log_bytes=10**6)
        code = None
        message = ""
        try:
            await install_conda(
                environment,
                prefix=place / "env",
                cache=self.cache,
                folder=place / "inputs",
                settings=self.settings.model_copy(update=settings),
                env=conda_environment(os.environ, place / "home"),
                log=log,
            )
        except StepError as error:
            code, message = error.code, error.message
        finally:
            log.close()
        lines = [json.loads(line)["message"] for line in (place / "log").read_text().splitlines()]
        return Installed(prefix=place / "env", text="".join(lines), code=code, message=message)

    def _place(self) -> Path:
        self._count += 1
        place = self.folder / f"build-{self._count}"
        place.mkdir()
        return place

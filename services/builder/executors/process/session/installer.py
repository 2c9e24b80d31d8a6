"""uv, as a build runs it: environments, and packages in them. No file of the repository is its configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from services.builder.executors.process.session import interpreter
from services.builder.executors.process.session.environment import installer_environment
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.indexes import read_indexes
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.programs import READ_ONCE_FILE, output_of, require_success, run_program
from services.builder.executors.process.session.spec import BuildSpec


@dataclass(frozen=True, kw_only=True)
class Installer:
    """Makes environments and installs packages for one build. Each method raises `StepError`.

    `run` is the HOME of our own steps, a folder in which nothing of the repository lies.
    """

    spec: BuildSpec
    log: BuildLog
    environ: Mapping[str, str]
    run: Path

    async def find_python(self, requested: str | None) -> str:
        """Return the path of the interpreter for a version or specifiers (PEP 440), or of the default one."""
        settings = self.spec.settings
        return await interpreter.find(
            requested,
            default=settings.default_python,
            uv=uv.find_uv_bin(),
            env=self._env(self.environ),
            log=self.log,
            folder=self.run,
            timeout_seconds=settings.environment_timeout_seconds,
            max_line_bytes=settings.max_line_bytes,
        )

    async def make_environment(self, python: str, target: Path) -> None:
        """Make a virtual environment, whose scripts find its Python wherever it lies."""
        command = [uv.find_uv_bin(), "venv", "--no-config", "--no-project", "--relocatable", "--python", python]
        timeout_seconds = self.spec.settings.environment_timeout_seconds
        await self._run("uv venv", [*command, "--", str(target)], self.environ, timeout_seconds)

    async def python_version(self, python: Path) -> str:
        """Return the version of an interpreter, as 3.11.7."""
        version = await output_of(
            [str(python), "-c", "import platform; print(platform.python_version())"],
            env=self._env(self.environ),
            timeout_seconds=60,
        )
        if not version:
            raise StepError("python_unavailable", f"The interpreter {python} does not run")
        return version.strip()

    async def install(
        self, env: Path, arguments: Sequence[str], *, environ: Mapping[str, str], compiles: bool, may_link: bool
    ) -> None:
        """Run `uv pip install` with `arguments`; `environ` says where packages come from.

        `may_link` lets files be links into uv's cache: nothing that runs in the environment may be able to write there.
        """
        command = [uv.find_uv_bin(), "pip", "install", "--python", str(env / "bin" / "python")]
        command += ["--link-mode", "hardlink" if may_link else "clone"]
        if compiles:
            command.append("--compile-bytecode")
        # Without a configuration of ours uv would read the repository's.
        configuration = read_indexes(environ).configuration
        command += ["--config-file", READ_ONCE_FILE] if configuration else ["--no-config"]
        self.log.write("building", " ".join(["uv pip install", *arguments]))

        timeout_seconds = self.spec.settings.install_timeout_seconds
        name = "The installation of packages"
        await self._run(name, [*command, *arguments], environ, timeout_seconds, secret=configuration)

    async def _run(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        timeout_seconds: float,
        *,
        secret: str = "",
    ) -> None:
        status = await run_program(
            command,
            name=name,
            log=self.log,
            env=self._env(environ),
            cwd=self.run,
            timeout_seconds=timeout_seconds,
            max_line_bytes=self.spec.settings.max_line_bytes,
            secret=secret,
        )
        require_success(name, status)

    def _env(self, environ: Mapping[str, str]) -> dict[str, str]:
        downloads = self.spec.settings.python_downloads
        return installer_environment(environ, Path(self.spec.data_dir), self.run, downloads=downloads)

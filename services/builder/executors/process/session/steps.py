"""The story of a build: fetch, read, find an interpreter, install, postBuild, and the manifest last."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uv

from services.builder.executors.process.session import interpreter
from services.builder.executors.process.session.conda.activation import read_activation, record_activation
from services.builder.executors.process.session.conda.install import install_conda
from services.builder.executors.process.session.environment import (
    conda_environment,
    installer_environment,
    repository_environment,
)
from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.indexes import read_indexes, without_indexes
from services.builder.executors.process.session.layout import ImageFolder, Layout, Manifest, write_atomically
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment, PipInstall, Script
from services.builder.executors.process.session.plan.reading import read
from services.builder.executors.process.session.programs import READ_ONCE_FILE, output_of, run_program
from services.builder.executors.process.session.spec import BuildSpec

Fetch = Callable[[BuildSpec, Path, Callable[[str], None]], Awaitable[None]]
"""Checks the spec's repository out into a folder; lines of progress go to the callback."""


@dataclass(frozen=True, kw_only=True)
class BuildSteps:
    """One build, from a spec to an image folder. Each step raises `StepError`."""

    spec: BuildSpec
    log: BuildLog
    fetch: Fetch
    environ: Mapping[str, str]

    @property
    def image(self) -> ImageFolder:
        """The folder that this build makes."""
        return Layout(Path(self.spec.data_dir)).image(self.spec.build_id)

    async def run(self) -> None:
        """Build the image folder. It counts as an image only once the last step has written the manifest."""
        self.image.remove()  # the remains of a session that was killed
        self.image.home.mkdir(parents=True)

        await self._fetch()
        plan = read(self.image.repo, self._repository_env)
        for note in plan.notes:
            self.log.write("building", note)

        if plan.conda:
            python = await self._make_conda_environment(plan.conda)
        else:
            python = await self._make_environment(plan.python)
            await self._install_base()
        for number, install in enumerate(plan.installs, start=1):
            await self._install(install, self.image.path / "inputs" / str(number))
        for script in filter(None, (plan.post_build, plan.start)):
            script.make_executable()
        if plan.post_build:
            await self._post_build(plan.post_build)
        self._finish(python, plan.start)

    async def _fetch(self) -> None:
        spec = self.spec
        repo = self.image.repo
        self.log.write("fetching", f"Fetching {spec.repo_url} at {spec.ref}")
        await self.fetch(spec, repo, lambda line: self.log.relay("fetching", line))

        limit = spec.settings.max_repository_bytes
        if size_bytes(repo, enough=limit) > limit:
            message = f"The repository is larger than the {limit // 2**20} MiB allowed here"
            raise StepError("repository_too_large", message)

    async def _make_environment(self, requested_python: str | None) -> str:
        """Make the virtual environment; return the version of its Python."""
        settings = self.spec.settings
        python = await interpreter.find(
            requested_python,
            default=settings.default_python,
            uv=uv.find_uv_bin(),
            env=self._installer_env,
            log=self.log,
            folder=self.image.path,
            timeout_seconds=settings.environment_timeout_seconds,
            max_line_bytes=settings.max_line_bytes,
        )

        command = [
            uv.find_uv_bin(),
            "venv",
            "--no-config",
            "--no-project",
            "--python",
            python,
            "--",
            str(self.image.env),
        ]
        await self._run("uv venv", command, self._installer_env, settings.environment_timeout_seconds)

        return await self._python_version(python)

    async def _make_conda_environment(self, environment: CondaEnvironment) -> str:
        """Install a conda environment, and what it takes from a package index; return the version of its Python."""
        image = self.image
        settings = self.spec.settings
        inputs = image.path / "inputs" / "conda"
        has_jupyter = await install_conda(
            environment,
            prefix=image.env,
            cache=Layout(Path(self.spec.data_dir)).conda_cache,
            folder=inputs,
            settings=settings,
            env=conda_environment(self.environ, image.home),
            log=self.log,
        )
        if has_jupyter:
            self._disable_news()
        else:
            await self._install_base()
        if environment.pip:
            await self._install(environment.pip, inputs / "pip")

        activation = await record_activation(
            environment,
            prefix=image.env,
            env=self._repository_env,
            folder=inputs,
            log=self.log,
            timeout_seconds=settings.environment_timeout_seconds,
            max_line_bytes=settings.max_line_bytes,
        )
        write_atomically(image.activation_path, activation.model_dump_json())
        return await self._python_version(str(image.python))

    async def _python_version(self, python: str) -> str:
        version = await output_of(
            [str(self.image.python), "-c", "import platform; print(platform.python_version())"],
            env=self._installer_env,
            timeout_seconds=60,
        )
        if not version:
            raise StepError("python_unavailable", f"The interpreter {python} does not run")
        return version.strip()

    async def _install_base(self) -> None:
        """Install Jupyter, from where the operator says: what a repository says of indexes and versions comes later."""
        if packages := self.spec.settings.base_packages:
            await self._pip_install(list(packages), self.environ)
            self._disable_news()

    async def _install(self, install: PipInstall, inputs: Path) -> None:
        """Install what a file asks for, as pip would after Jupyter; `inputs` is a folder for the files of uv."""
        self.log.write("building", f"Installing the packages of {install.source}")
        environ = without_indexes(self.environ) if install.replaces_indexes else self.environ
        await self._pip_install(install.write(inputs), environ)

    async def _pip_install(self, arguments: list[str], environ: Mapping[str, str]) -> None:
        settings = self.spec.settings
        command = [uv.find_uv_bin(), "pip", "install", "--python", str(self.image.python)]
        if settings.compiles_bytecode:
            command.append("--compile-bytecode")
        # Without a configuration of ours uv would read the repository's.
        configuration = read_indexes(environ).configuration
        command += ["--config-file", READ_ONCE_FILE] if configuration else ["--no-config"]
        self.log.write("building", " ".join(["uv pip install", *arguments]))

        env = self._installer_env_of(environ)
        timeout_seconds = settings.install_timeout_seconds
        name = "The installation of packages"
        await self._run(name, [*command, *arguments], env, timeout_seconds, secret=configuration)

    def _disable_news(self) -> None:
        """Keep JupyterLab from asking whether to fetch news: a temporary user would be asked each time."""
        overrides = self.image.env / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
        if not overrides.exists() and overrides.parent.parent.is_dir():
            overrides.parent.mkdir(exist_ok=True)
            overrides.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}')

    async def _post_build(self, script: Script) -> None:
        self.log.write("building", "Running postBuild")

        timeout_seconds = self.spec.settings.post_build_timeout_seconds
        try:
            await self._run("postBuild", script.command, self._repository_env, timeout_seconds)
        except OSError as error:
            raise build_failed(f"postBuild can't be run: {error.strerror}") from None

    async def _run(
        self, name: str, command: list[str], env: Mapping[str, str], timeout_seconds: float, *, secret: str = ""
    ) -> None:
        """Run a program; raise `StepError` unless it succeeds."""
        status = await run_program(
            command,
            name=name,
            log=self.log,
            env=env,
            cwd=self.image.repo,
            timeout_seconds=timeout_seconds,
            max_line_bytes=self.spec.settings.max_line_bytes,
            secret=secret,
        )

        if status > 0:
            raise build_failed(f"{name} ended with exit status {status}")
        if status < 0:
            raise build_failed(f"{name} was ended by signal {-status}")

    def _finish(self, python: str, start: Script | None) -> None:
        image = self.image
        spec = self.spec
        manifest = Manifest(
            image=spec.image,
            build_id=spec.build_id,
            repo_url=spec.repo_url,
            ref=spec.ref,
            python=python,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            size_bytes=size_bytes(image.path),
            start=str(start.path.relative_to(image.repo.resolve())) if start else None,
        )

        write_atomically(image.manifest_path, manifest.model_dump_json())
        self.log.write("building", f"Built {spec.image} ({manifest.size_bytes // 2**20} MiB)")

    @property
    def _installer_env(self) -> dict[str, str]:
        return self._installer_env_of(self.environ)

    def _installer_env_of(self, environ: Mapping[str, str]) -> dict[str, str]:
        downloads = self.spec.settings.python_downloads
        return installer_environment(environ, Path(self.spec.data_dir), self.image.home, downloads=downloads)

    @property
    def _repository_env(self) -> dict[str, str]:
        image = self.image
        environment = repository_environment(self.environ, image.env, image.home, image.repo)
        return read_activation(image.activation_path).apply(environment)


def size_bytes(folder: Path, *, enough: int | None = None) -> int:
    """Return the size of all files below `folder`, without following links; counting may stop past `enough`."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 -- twice as fast, and it counts
            except FileNotFoundError:
                continue
        if enough is not None and total > enough:
            break
    return total

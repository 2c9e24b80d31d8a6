"""The story of a build: fetch, read, make the environment, install, postBuild, and the manifest last."""

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.builder.executors.process.session import image_runtime
from services.builder.executors.process.session.environment import RUN_VARIABLE, base_environment
from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.image_environment import ImageEnvironment
from services.builder.executors.process.session.image_runtime.copies import make_unwritable
from services.builder.executors.process.session.image_runtime.variables import (
    activated,
    image_variables,
    read_activation,
)
from services.builder.executors.process.session.installer import Installer
from services.builder.executors.process.session.layout import (
    BuildFolder,
    ImageFolder,
    Layout,
    Manifest,
    remove_tree,
    size_bytes,
    write_atomically,
)
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.plan.build_plan import BuildPlan, Script
from services.builder.executors.process.session.plan.reading import read
from services.builder.executors.process.session.programs import require_success, run_program
from services.builder.executors.process.session.spec import BuildSpec

Fetch = Callable[[BuildSpec, Path, Callable[[str], None]], Awaitable[None]]
"""Checks the spec's repository out into a folder; lines of progress go to the callback."""


@dataclass(frozen=True, kw_only=True)
class BuildSteps:
    """One build, from a spec to an image folder. Each step raises `StepError`.

    `overlays_refused` says why there are no overlays; empty if there are.
    """

    spec: BuildSpec
    log: BuildLog
    fetch: Fetch
    environ: Mapping[str, str]
    overlays_refused: str

    @property
    def layout(self) -> Layout:
        """The folders of this installation."""
        return Layout(Path(self.spec.data_dir))

    @property
    def image(self) -> ImageFolder:
        """The folder that this build makes."""
        return self.layout.image(self.spec.build_id)

    @property
    def folder(self) -> BuildFolder:
        """The build's own folder, which no program of the repository needs. It is the HOME of our own steps."""
        return self.layout.build(self.spec.build_id)

    async def run(self) -> None:
        """Build the image folder. It counts as an image only once the last step has written the manifest."""
        self.image.remove()  # the remains of a session that was killed
        remove_tree(self.folder.home)
        self.image.path.mkdir(parents=True)
        self.folder.home.mkdir()

        await self._fetch()
        plan = read(self.image.repo, self._repository_env)
        for note in plan.notes:
            self.log.write("building", note)

        environment = self._environment()
        try:
            await self._install(environment, plan)
            environment.put_together()
            for script in filter(None, (plan.post_build, plan.start)):
                script.make_executable()
            if plan.post_build:
                await self._post_build(plan.post_build)
            program = environment.program
        finally:
            environment.close()
        self._finish(environment, program, plan.start)

    async def _fetch(self) -> None:
        spec = self.spec
        repo = self.image.repo
        self.log.write("fetching", f"Fetching {spec.repo_url} at {spec.ref}")
        await self.fetch(spec, repo, lambda line: self.log.relay("fetching", line))

        limit = spec.settings.max_repository_bytes
        if size_bytes(repo, enough=limit) > limit:
            message = f"The repository is larger than the {limit // 2**20} MiB allowed here"
            raise StepError("repository_too_large", message)

    def _environment(self) -> ImageEnvironment:
        is_layered = not self.overlays_refused
        installer = Installer(spec=self.spec, log=self.log, environ=self.environ, run=self.folder.home)
        return ImageEnvironment(
            image=self.image, layout=self.layout, installer=installer, environ=self.environ, is_layered=is_layered
        )

    async def _install(self, environment: ImageEnvironment, plan: BuildPlan) -> None:
        if plan.conda:
            await environment.make_conda(plan.conda, self._repository_env)
        else:
            await environment.make(plan.python)
        for number, install in enumerate(plan.installs, start=1):
            self.log.write("building", f"Installing the packages of {install.source}")
            await environment.install(install, self.folder.home / "inputs" / str(number))

    async def _post_build(self, script: Script) -> None:
        self.log.write("building", "Running postBuild")
        if self.overlays_refused:
            line = f"Servers get copies of this image, as the system refuses {self.overlays_refused}: an absolute path"
            self.log.write("building", f"{line} that postBuild writes into a file leads to the image, not to the copy.")

        settings = self.spec.settings
        try:
            status = await run_program(
                script.command,
                name="postBuild",
                log=self.log,
                env=self._repository_env,
                cwd=self.image.repo,
                timeout_seconds=settings.post_build_timeout_seconds,
                max_line_bytes=settings.max_line_bytes,
            )
        except OSError as error:
            raise build_failed(f"postBuild can't be run: {error.strerror}") from None
        require_success("postBuild", status)

    def _finish(self, environment: ImageEnvironment, program: str | None, start: Script | None) -> None:
        image = self.image
        spec = self.spec
        remove_tree(image.path / "env-work")
        shutil.copytree(Path(image_runtime.__path__[0]), image.runtime, ignore=shutil.ignore_patterns("__pycache__"))
        if self.overlays_refused:
            make_unwritable(image.path)
        manifest = Manifest(
            image=spec.image,
            build_id=spec.build_id,
            repo_url=spec.repo_url,
            ref=spec.ref,
            python=environment.python,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            program=program,
            start=str(start.path.relative_to(image.repo.resolve())) if start else None,
            is_layered=environment.is_layered,
            base=environment.base.name if environment.base and environment.is_layered else None,
        )

        write_atomically(image.manifest_path, manifest.model_dump_json())
        self.log.write("building", f"Built {spec.image}")

    @property
    def _repository_env(self) -> dict[str, str]:
        base = base_environment(self.environ) | {RUN_VARIABLE: str(self.folder.home)}
        variables = image_variables(base, env=self.image.env, repo=self.image.repo)
        return activated(variables, read_activation(self.image.path))

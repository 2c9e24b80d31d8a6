"""The environment of an image: what the repository asks for, over a base with Jupyter that images share."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from services.builder.executors.process.session import assembly
from services.builder.executors.process.session.bases import Base, find_or_make, key_of
from services.builder.executors.process.session.conda.activation import record_activation
from services.builder.executors.process.session.conda.install import install_conda
from services.builder.executors.process.session.environment import conda_environment
from services.builder.executors.process.session.image_runtime.copies import copy_tree
from services.builder.executors.process.session.image_runtime.overlays import Overlay
from services.builder.executors.process.session.image_runtime.serving import env_lowers
from services.builder.executors.process.session.indexes import read_indexes, without_indexes
from services.builder.executors.process.session.installer import Installer
from services.builder.executors.process.session.layout import ImageFolder, Layout, write_atomically
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment, PipInstall

_PROGRAMS = (("jupyter-lab", "jupyterlab"), ("jupyter-notebook", "notebook"))


@dataclass(kw_only=True)
class ImageEnvironment:
    """Makes the environment of one image, step by step. Each step raises `StepError`.

    With overlays the base lies below, and what a script changes goes to a folder of its own: what uv linked from its
    cache stays as it is. Without, all are copies in one folder.
    """

    image: ImageFolder
    layout: Layout
    installer: Installer
    environ: Mapping[str, str]
    is_layered: bool
    base: Base | None = None
    python: str = ""
    _overlay: Overlay | None = None

    async def make(self, requested_python: str | None) -> None:
        """Make an environment that seems to have the base's packages already."""
        installer, env = self.installer, self.image.env
        python = await installer.find_python(requested_python)
        if installer.spec.settings.base_packages:
            self.base = await self._find_base(python)
            manifest = self.base.manifest()
            self.python = manifest.python if manifest else ""
            copy = os.link if self.is_layered else shutil.copy2
            await asyncio.to_thread(shutil.copytree, self.base.template, env, symlinks=True, copy_function=copy)
        else:
            await installer.make_environment(python, env)
        self.python = self.python or await installer.python_version(self.image.python)

    async def make_conda(self, environment: CondaEnvironment, variables: Mapping[str, str]) -> None:
        """Make a conda environment, with what it takes from a package index; its scripts see `variables`."""
        installer, image = self.installer, self.image
        settings = installer.spec.settings
        inputs = installer.run / "inputs" / "conda"
        has_jupyter = await install_conda(
            environment,
            prefix=image.env,
            cache=self.layout.conda_cache,
            folder=inputs,
            settings=settings,
            env=conda_environment(self.environ, installer.run),
            log=installer.log,
        )
        if has_jupyter:
            _disable_news(image.env)
        elif settings.base_packages:
            await self._install(settings.base_packages, self.environ)
            _disable_news(image.env)
        if environment.pip:
            await self.install(environment.pip, inputs / "pip")

        activation = await record_activation(
            environment,
            prefix=image.env,
            env=variables,
            folder=inputs,
            log=installer.log,
            timeout_seconds=settings.environment_timeout_seconds,
            max_line_bytes=settings.max_line_bytes,
        )
        write_atomically(image.activation_path, activation.model_dump_json())
        self.python = await installer.python_version(image.python)

    async def _find_base(self, python: str) -> Base:
        settings = self.installer.spec.settings
        interpreter = Path(python).resolve()
        status = interpreter.stat()
        key = key_of(
            interpreter=[interpreter, status.st_mtime_ns, status.st_size],
            packages=settings.base_packages,
            indexes=read_indexes(self.environ).environment,
            form="env, template",
            uv=version("uv"),
        )

        async def make(base: Base) -> None:
            self.installer.log.write("building", "Installing Jupyter, for this build and those that follow")
            await self.installer.make_environment(python, base.env)
            await self.installer.install(
                base.env,
                settings.base_packages,
                environ=self.environ,
                compiles=settings.compiles_bytecode,
                may_link=True,
            )
            _disable_news(base.env)
            await self.installer.make_environment(python, base.template)
            assembly.tell_packages(base.env, base.template)
            base.finish(await self.installer.python_version(base.env / "bin" / "python"))

        return await find_or_make(self.layout.bases, key, make, max_age_seconds=settings.base_max_age_seconds)

    async def install(self, install: PipInstall, inputs: Path) -> None:
        """Install what a file asks for, as pip would after Jupyter; `inputs` is a folder for the files of uv."""
        environ = without_indexes(self.environ) if install.replaces_indexes else self.environ
        await self._install(install.write(inputs), environ)

    async def _install(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        await self.installer.install(
            self.image.env,
            arguments,
            environ=environ,
            compiles=self.installer.spec.settings.compiles_bytecode and not self.is_layered,
            may_link=self.is_layered,
        )

    def put_together(self) -> None:
        """Put the base below what was installed."""
        image = self.image
        replaced = assembly.replaced_files(self.base.env, image.env) if self.base else []
        if self.is_layered:
            image.env_changes.mkdir()
            lowers = env_lowers(image.path, self.base.name if self.base else None)[1:]
            work = image.path / "env-work"
            self._overlay = Overlay(at=image.env, lowers=lowers, changes=image.env_changes, work=work)
            self._overlay.mount()
            assembly.take_out(image.env, replaced)
        elif self.base:
            without = {self.base.env / path for path in replaced}
            copy_tree(self.base.env, image.env, left_out=lambda _: None, without=without, merge=True)
        _configure_terminals(image)

    @property
    def program(self) -> str | None:
        """The program that serves the image: JupyterLab's if it is there, else Notebook's; None without either."""
        env = self.image.env
        return next(
            (
                program
                for program, package in _PROGRAMS
                if (env / "bin" / program).is_file()
                and any(env.glob(f"lib/python*/site-packages/{package}/__init__.py"))
            ),
            None,
        )

    def close(self) -> None:
        """Let go of the environment: nothing is written to it from now on."""
        if self._overlay:
            self._overlay.unmount()
            self._overlay = None


def _configure_terminals(image: ImageFolder) -> None:
    """Let terminals keep the PATH of the server, unless the repository or a package configures them."""
    shell = ["/bin/bash", "--init-file", str(image.runtime / "terminal.sh")]
    if not os.access(shell[0], os.X_OK):
        return
    folder = image.env / "etc" / "jupyter"
    folder.mkdir(parents=True, exist_ok=True)
    for name, section in (("jupyter_server_config.json", "ServerApp"), ("jupyter_notebook_config.json", "NotebookApp")):
        if not (folder / name).exists():  # of the folders `*.d` Jupyter reads nothing but its extensions
            configuration = {section: {"terminado_settings": {"shell_command": shell}}}
            (folder / name).write_text(json.dumps(configuration))


def _disable_news(env: Path) -> None:
    """Keep JupyterLab from asking whether to fetch news: a temporary user would be asked each time."""
    overrides = env / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if not overrides.exists() and overrides.parent.parent.is_dir():
        overrides.parent.mkdir(exist_ok=True)
        overrides.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}')

"""The story of reading a checkout: which buildpack builds it, and what that one reads."""

from collections.abc import Mapping
from pathlib import Path

from packaging.specifiers import SpecifierSet

from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.plan.apt import refuse_system_packages
from services.builder.executors.process.session.plan.build_plan import Buildpack, BuildPlan, PipInstall
from services.builder.executors.process.session.plan.buildpacks import (
    REFUSED,
    chosen,
    chosen_before_runtime,
    passed_over,
)
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.environment_yml import read_environment
from services.builder.executors.process.session.plan.pipfile import read_pipfile
from services.builder.executors.process.session.plan.pyproject import project_install, read_project
from services.builder.executors.process.session.plan.refusals import NowhereError, unsupported
from services.builder.executors.process.session.plan.requirements import read_requirements
from services.builder.executors.process.session.plan.runtime import Runtime, read_runtime
from services.builder.executors.process.session.plan.scripts import read_script

_NO_VARIABLES: Mapping[str, str] = {}
_PATCH_RELEASES = 100


def read(repo: Path, variables: Mapping[str, str] = _NO_VARIABLES) -> BuildPlan:
    """Read a checkout, and change nothing in it. `variables` are what `${NAME}` means in a requirements file.

    Raise `StepError`: `unsupported_repository` or `build_failed`, naming the file.
    """
    checkout = Checkout.at(repo)
    if winner := chosen_before_runtime(checkout):
        raise _refusal(*winner)

    runtime = read_runtime(checkout)
    buildpack, file = chosen(checkout, runtime)
    if buildpack in REFUSED:
        raise _refusal(buildpack, file or "The repository")
    refuse_system_packages(checkout)

    plan = _READERS[buildpack](checkout, runtime, variables)
    return BuildPlan(
        buildpack=buildpack,
        file=file,
        python=plan.python,
        installs=plan.installs,
        conda=plan.conda,
        post_build=read_script(checkout, "postBuild"),
        start=read_script(checkout, "start"),
        notes=(*passed_over(checkout, buildpack, file), *plan.notes),
    )


def _refusal(buildpack: Buildpack, file: str) -> StepError:
    if buildpack is Buildpack.JULIA_REQUIRE:
        return NowhereError(
            "unsupported_repository",
            f"{file}: no executor builds it any more. List the packages in a Project.toml, which the kubernetes and "
            "docker executors can build: they build with repo2docker",
        )
    return unsupported(file, buildpack)


def _python_plan(checkout: Checkout, runtime: Runtime, variables: Mapping[str, str]) -> BuildPlan:
    requirements, notes = read_requirements(checkout, variables)
    project = read_project(checkout)
    installs: list[PipInstall] = [requirements] if requirements else []
    if project.source:
        installs.append(project_install(checkout, project.source))

    if not runtime.may_be_python:
        notes.append(f"{runtime.file} is passed over, as in repo2docker: {runtime.language} is no language it knows")
    return BuildPlan(
        python=_python(runtime, project.requires_python),
        installs=tuple(installs),
        notes=(*notes, *project.notes),
    )


def _python(runtime: Runtime, requires_python: str | None) -> str | None:
    """Return the version of runtime.txt, or else the specifiers of pyproject.toml, which must not contradict it."""
    version = runtime.python()
    if not version or not requires_python:
        return version or requires_python
    if not _allows(requires_python, version):
        raise build_failed(
            f"{runtime.file} says Python {version}, and pyproject.toml says requires-python = {requires_python!r}: "
            "change one of them"
        )
    return version


def _allows(requires_python: str, version: str) -> bool:
    is_minor = version.count(".") == 1
    releases = [f"{version}.{patch}" for patch in range(_PATCH_RELEASES)] if is_minor else [version]
    specifiers = SpecifierSet(requires_python)
    return any(specifiers.contains(release) for release in releases)


def _pipfile_plan(checkout: Checkout, runtime: Runtime, variables: Mapping[str, str]) -> BuildPlan:
    install, python, notes = read_pipfile(checkout, variables)
    return BuildPlan(python=python, installs=(install,) if install else (), notes=tuple(notes))


def _conda_plan(checkout: Checkout, runtime: Runtime, variables: Mapping[str, str]) -> BuildPlan:
    environment, notes = read_environment(checkout, variables)
    return BuildPlan(conda=environment, notes=tuple(notes))


_READERS = {Buildpack.PYTHON: _python_plan, Buildpack.PIPFILE: _pipfile_plan, Buildpack.CONDA: _conda_plan}

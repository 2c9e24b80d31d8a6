"""What would become of a folder if it were launched: `python -m services.builder.check <folder>` prints JSON.

`bindery check` shows it. The folder is read as a checkout of a build is, and nothing in it is changed.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import BuildPlan, CondaEnvironment, PipInstall, Script
from services.builder.executors.process.session.plan.buildpacks import KNOWN_FILES
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.reading import read
from services.builder.executors.process.session.plan.refusals import NowhereError
from services.builder.settings import BuilderSettings

WITH_REPO2DOCKER = ("docker", "kubernetes")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What one file asks for: lines as the installer gets them, and its arguments."""

    source: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report on a folder.

    `files` are the names of those that mean something: in `files_in` if that names a binder folder, else at the top.
    `executor` is the one of this machine's settings. `executors` tell of each whether it builds the folder; None: that
    is not known here. `code` and `message` are the process executor's refusal; the fields of its plan are empty then.
    """

    folder: str
    files_in: str = ""
    files: tuple[str, ...] = ()
    executor: str
    executors: dict[str, bool | None]
    code: str | None = None
    message: str | None = None
    buildpack: str | None = None
    file: str | None = None
    python: str | None = None
    installs: tuple[Installation, ...] = ()
    post_build: str | None = None
    start: str | None = None
    notes: tuple[str, ...] = ()


def report_on(folder: Path, executor: str) -> Report:
    """Return the report on a folder, for a machine with this executor. Raise `OSError` if it can't be read."""
    top = folder.resolve()
    report = Report(folder=str(top), executor=executor, executors=_executors(executor, process=True, repo2docker=True))
    try:
        checkout = Checkout.at(top)
        in_binder = checkout.folder.name if checkout.has_binder_folder else ""
        files = tuple(checkout.name(checkout.folder / name) for name in KNOWN_FILES if checkout.has(name))
        report = replace(report, files_in=in_binder, files=files)
        return _with_plan(report, read(top), top)
    except StepError as error:
        others = error.has_code("unsupported_repository") and not isinstance(error, NowhereError)
        executors = _executors(executor, process=False, repo2docker=others)
        return replace(report, code=error.code, message=error.message, executors=executors)


def _with_plan(report: Report, plan: BuildPlan, top: Path) -> Report:
    return replace(
        report,
        buildpack=plan.buildpack.value,
        file=plan.file,
        python=plan.conda.python if plan.conda else plan.python,
        installs=(*_of_conda(plan.conda), *(_installation(install) for install in plan.installs)),
        post_build=_name(plan.post_build, top),
        start=_name(plan.start, top),
        notes=plan.notes,
    )


def _executors(executor: str, *, process: bool, repo2docker: bool) -> dict[str, bool | None]:
    known: dict[str, bool | None] = {executor: None, "process": process}
    known.update(dict.fromkeys(WITH_REPO2DOCKER, repo2docker))
    return known


def _of_conda(environment: CondaEnvironment | None) -> tuple[Installation, ...]:
    """Return what an environment.yml asks for: its packages, with the channels as arguments, and those for pip."""
    if environment is None:
        return ()
    channels = tuple(f"--channel={channel}" for channel in environment.channels)
    packages = Installation(
        source=environment.file, requirements=environment.dependencies, constraints=(), arguments=channels
    )
    return (packages, _installation(environment.pip)) if environment.pip else (packages,)


def _installation(install: PipInstall) -> Installation:
    return Installation(
        source=install.source,
        requirements=install.requirements,
        constraints=install.constraints,
        arguments=install.arguments,
    )


def _name(script: Script | None, top: Path) -> str | None:
    return str(script.path.relative_to(top)) if script else None


def main(arguments: list[str]) -> int:
    """Print the report on a folder. Return 0 whatever it says, and 2 if there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    try:
        report = report_on(folder, BuilderSettings().executor)
    except (OSError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

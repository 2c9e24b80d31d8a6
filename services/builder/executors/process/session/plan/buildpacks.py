"""Which buildpack builds a repository: the first of repo2docker's order that finds a file of its own."""

from services.builder.executors.process.session.plan.build_plan import Buildpack
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.runtime import Runtime

_BEFORE_RUNTIME = (
    (Buildpack.DOCKERFILE, ("Dockerfile",)),
    (Buildpack.JULIA, ("Project.toml", "JuliaProject.toml")),
    (Buildpack.JULIA_REQUIRE, ("REQUIRE",)),
    (Buildpack.NIX, ("default.nix",)),
)
_PIPFILES = ("Pipfile.lock", "Pipfile")
_ENVIRONMENTS = ("environment.yml", "environment.yaml")

REFUSED = (Buildpack.DOCKERFILE, Buildpack.JULIA, Buildpack.JULIA_REQUIRE, Buildpack.NIX, Buildpack.R)
"""The buildpacks whose environments a process can't provide."""
REFUSED_FILES = (*(name for _, names in _BEFORE_RUNTIME for name in names), "DESCRIPTION")
"""The files that choose one of them, beside a runtime.txt that says `r-…`."""
KNOWN_FILES = (
    *REFUSED_FILES,
    *_ENVIRONMENTS,
    *_PIPFILES,
    *("requirements.txt", "setup.py", "pyproject.toml", "runtime.txt", "apt.txt", "install.R", "postBuild", "start"),
)
"""The files that mean something in a repository, whether or not the winner reads them."""
_PASSED_OVER = {
    Buildpack.CONDA: (*_PIPFILES, "requirements.txt", "setup.py"),
    Buildpack.PIPFILE: ("Pipfile", "requirements.txt", "setup.py"),
    Buildpack.PYTHON: _PIPFILES,
}


def chosen_before_runtime(checkout: Checkout) -> tuple[Buildpack, str] | None:
    """Return the buildpack that wins whatever runtime.txt says, and the name of its file; None if none does."""
    return next(
        (
            (buildpack, _shown(checkout, name))
            for buildpack, names in _BEFORE_RUNTIME
            for name in names
            if checkout.has(name)
        ),
        None,
    )


def chosen(checkout: Checkout, runtime: Runtime) -> tuple[Buildpack, str | None]:
    """Return the buildpack that wins by runtime.txt and the rest, and the name of its file if it has one."""
    if runtime.chooses_r:
        return Buildpack.R, runtime.file
    if not checkout.has_binder_folder and checkout.has("DESCRIPTION"):
        return Buildpack.R, "DESCRIPTION"
    if name := _first(checkout, _ENVIRONMENTS):
        return Buildpack.CONDA, name
    if runtime.language == "r":  # without a date repo2docker makes no R of it, but neither what its author meant
        return Buildpack.R, runtime.file
    if runtime.may_be_python and (name := _first(checkout, _PIPFILES)):
        return Buildpack.PIPFILE, name

    at_top = () if checkout.has_binder_folder else ("setup.py", "pyproject.toml")
    return Buildpack.PYTHON, _first(checkout, ("requirements.txt", *at_top, "runtime.txt"))


def passed_over(checkout: Checkout, buildpack: Buildpack, file: str | None) -> list[str]:
    """Return notes on files that the winner does not read, so that their author is not left to wonder."""
    names = [_shown(checkout, name) for name in _PASSED_OVER.get(buildpack, ()) if checkout.has(name)]
    notes = [
        f"{name} is passed over, as in repo2docker: {file or 'runtime.txt'} decides" for name in names if name != file
    ]
    if checkout.has("install.R"):
        name = _shown(checkout, "install.R")
        notes.append(f"{name} is passed over, as in repo2docker: R needs a runtime.txt like r-4.4-2025-01-31")
    return notes


def _first(checkout: Checkout, names: tuple[str, ...]) -> str | None:
    return next((_shown(checkout, name) for name in names if checkout.has(name)), None)


def _shown(checkout: Checkout, name: str) -> str:
    return checkout.name(checkout.folder / name)

"""environment.yml, as data: channels, dependencies and the list for pip. Nothing is solved here."""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.refusals import quoted, unsupported
from services.builder.executors.process.session.plan.requirements import RequirementsReader
from services.builder.executors.process.session.plan.runtime import SEPARATE_KERNELS

_PYTHON = re.compile(r"(?:[\w.-]+::)?python\s*=+\s*([0-9]+\.[0-9]+)")


def read_environment(checkout: Checkout, variables: Mapping[str, str]) -> tuple[CondaEnvironment, list[str]]:
    """Read environment.yml, or else environment.yaml, one of which must be there; return it, and notes.

    A `prefix` does not count: it is a folder of the author's machine. Raise `StepError`, naming the file and the key.
    """
    path = checkout.find("environment.yml") or checkout.require("environment.yaml")

    file = checkout.name(path)
    content = _content(checkout, path, file)
    channels = _texts(content.get("channels"), f"{file}, channels")
    packages, for_pip = _dependencies(content.get("dependencies"), file)
    name = content.get("name")

    # conda and mamba call pip in the folder of the file.
    reader = RequirementsReader(checkout, folder=path.parent, variables=variables)
    reader.read_text("\n".join(for_pip), file=f"{file}, pip", base=path.parent)
    python = next((match[1] for package in packages if (match := _PYTHON.match(package))), None)
    if python in SEPARATE_KERNELS:
        raise unsupported(file, f"a kernel of Python {python} beside a newer Jupyter")
    environment = CondaEnvironment(
        file=file,
        name=str(name) if name else None,
        channels=tuple(channel for channel in channels if channel != "nodefaults"),
        adds_default_channels="nodefaults" not in channels,
        dependencies=tuple(packages),
        python=python,
        variables=_variables(content.get("variables"), file),
        pip=reader.install(f"pip: of {file}"),
    )
    return environment, reader.notes


def _content(checkout: Checkout, path: Path, file: str) -> Mapping[object, object]:
    try:
        content = yaml.safe_load(checkout.text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that does not exist is a ValueError
        raise build_failed(f"{file} is not valid YAML: {_where(error)}") from None

    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise build_failed(f"{file} must have keys like channels: and dependencies: at its top")
    return content


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).partition("\n")[0]


def _dependencies(value: object, file: str) -> tuple[list[str], list[str]]:
    """Return conda's match specifications, and the lines for pip."""
    packages: list[str] = []
    for_pip: list[str] = []
    for entry in _list(value, f"{file}, dependencies"):
        if isinstance(entry, Mapping):
            for key, lines in entry.items():
                if key not in ("pip", "uv"):
                    raise build_failed(f"{file}, dependencies: {quoted(key)} is not a list that conda knows, as pip is")
                for_pip += _texts(lines, f"{file}, {key}")
        else:
            packages += _texts([entry], f"{file}, dependencies")
    return packages, for_pip


def _variables(value: object, file: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise build_failed(f"{file}, variables: it must have lines like NAME: value")
    if wrong := next((item for item in value.values() if isinstance(item, Mapping | list)), None):
        raise build_failed(f"{file}, variables: {quoted(wrong)} is not text")
    return {str(name): "" if text is None else str(text) for name, text in value.items()}


def _texts(value: object, place: str) -> list[str]:
    texts = []
    for entry in _list(value, place):
        if not isinstance(entry, str):
            raise build_failed(f"{place}: {quoted(entry)} is not text: put it in quotes")
        texts.append(entry.strip())
    return [text for text in texts if text]


def _list(value: object, place: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise build_failed(f"{place}: it must be a list, each line of it with a dash")
    return [entry for entry in value if entry is not None]

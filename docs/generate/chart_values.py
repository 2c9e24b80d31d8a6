"""The page of the chart's values: `values.yaml`, whose comments say what each is for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from docs.generate.markdown import NOTE, table

VALUES = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "bindery" / "values.yaml"

_PARTS = {
    "": "For all parts",
    "everyPart": "What every part takes",
    "gateway": "Gateway",
    "resolver": "Resolver",
    "builder": "Builder's API",
    "worker": "Builder workers",
    "launcher": "Launcher",
    "redis": "Redis",
    "hub": "Hub",
    "proxy": "Proxy of the bundled hub",
    "registry": "Registry for built images",
    "engine": "Engine of builds",
    "builds": "Builds",
    "servers": "Users' servers",
    "ingress": "Ingress",
    "httpRoute": "Gateway API",
    "networkPolicy": "Network policies",
    "priorityClasses": "Priority classes",
    "monitoring": "Monitoring",
    "checks": "Checks",
}
"""Headings, by the first word of a value's path; those that have none are for all parts."""

_HEAD = f"""# Values of the chart

{NOTE}

All values of `deploy/helm/bindery`, with their defaults. [A cluster](helm.md) tells which to set first. A misspelt
value is refused, with its name.
"""
_EVERY = """
A part's own value has precedence over the one here; maps are merged, lists and texts are replaced. So
`everyPart.nodeSelector` is for all parts, and `redis.nodeSelector` for Redis. The parts are `gateway`, `resolver`,
`builder`, `worker`, `launcher`, `redis`, `hub`, `proxy`, which goes where the hub may, and `registry`. `engine`, which
is in the namespace of builds, takes the same values, but its own alone.
"""


@dataclass(frozen=True)
class Value:
    """A value of the chart: its path with dots, its default as YAML in one line, and what it is for."""

    path: str
    default: str
    meaning: str


class UndocumentedValueError(Exception):
    """A value has no comment before it that begins with `# --`; the message names it."""


def chart_values_page() -> str:
    """Return the page. Raise `UndocumentedValueError`."""
    values = list(documented_values(VALUES.read_text()))
    text = _HEAD
    for part, heading in _PARTS.items():
        rows = [value for value in values if _part_of(value.path) == part]
        text += f"\n## {heading}\n{_EVERY if part == 'everyPart' else ''}\n"
        text += table(
            ["Value", "Default", "Meaning"],
            [(f"`{value.path}`", f"`{value.default}`" if value.default else "empty", value.meaning) for value in rows],
        )
    return text


def documented_values(text: str) -> Iterator[Value]:
    """Yield the values of a file in order. Raise `UndocumentedValueError`."""
    if isinstance(values := yaml.compose(text), yaml.MappingNode):
        yield from _of_mapping(values, text.splitlines(), "")


def _of_mapping(node: yaml.MappingNode, lines: list[str], path: str) -> Iterator[Value]:
    for key, value in node.value:
        inner = f"{path}.{key.value}".lstrip(".")
        meaning = _comment_before(key.start_mark.line, lines)
        if meaning:
            yield Value(inner, _one_line(value), meaning)
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _of_mapping(value, lines, inner)
        else:
            raise UndocumentedValueError(f"{inner} has no comment in values.yaml: write `# -- ` and what it is for")


def _comment_before(line: int, lines: list[str]) -> str:
    """Return the comment that ends just before a line, if it begins with `# --`."""
    comment: list[str] = []
    for text in reversed(lines[:line]):
        if not (found := re.fullmatch(r" *#( -- )?(.*)", text)):
            break
        comment.insert(0, found[2].strip())
        if found[1]:
            return " ".join(comment)
    return ""


def _one_line(node: yaml.Node) -> str:
    value = yaml.safe_load(yaml.serialize(node))
    if value in ("", None):
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _part_of(path: str) -> str:
    first = path.partition(".")[0]
    return first if first in _PARTS else ""

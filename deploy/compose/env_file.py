"""Files of variables, as Compose reads them: `.env` and the services' own."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*(.*)")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"""")


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file. Of those that are set twice the last counts. Values have no line breaks."""
    values = {}
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            values[found[1]] = _value(found[2])
    return values


def read(path: Path) -> dict[str, str]:
    """Return the variables of a file; none if there is no such file."""
    return parse(path.read_text(encoding="utf-8")) if path.exists() else {}


def with_variable(text: str, name: str, value: str) -> str:
    """Return the file's text with a variable set, in place of a line that leaves it empty, or at the end."""
    empty = re.compile(rf"^{re.escape(name)}=[ \t]*$", re.MULTILINE)
    line = f"{name}={value}"
    if empty.search(text):
        return empty.sub(line, text, count=1)
    return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n"


def render(values: Mapping[str, str]) -> str:
    """Return a file's text. Values are written as they are read: without `'` and line breaks."""
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file in one step, so that it is never half written and never readable for more than `mode` allows."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as draft:
        draft.write(text)
    Path(draft.name).chmod(mode)
    Path(draft.name).replace(path)


def _value(text: str) -> str:
    if quoted := _QUOTED.match(text):
        return quoted[1] if quoted[1] is not None else re.sub(r"\\(.)", r"\1", quoted[2])
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()

"""Sections added to a repository's configuration in one write; git itself takes a process for each of their lines."""

import os
from pathlib import Path


def add_section(folder: Path, kind: str, name: str, **settings: str) -> None:
    """Add the section `[kind "name"]`, which must be new, to the configuration of the repository at `folder`.

    Bytes of a text that are not UTF-8 are surrogates (PEP 383). Raise `ValueError` for a text with a line break or a
    NUL, which no name in a configuration can have. Source: "Syntax" in git-config(1).
    """
    if any(letter in text for text in (name, *settings.values()) for letter in "\n\0"):
        raise ValueError(f"no section can be called {name!r}, or hold {settings}")

    lines = [f"[{kind} {_quoted(name)}]", *(f"\t{key} = {_quoted(value)}" for key, value in settings.items())]
    with (folder / ".git" / "config").open("ab") as file:
        file.write(os.fsencode("\n".join(lines) + "\n"))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

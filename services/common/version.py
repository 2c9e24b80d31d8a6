"""The version of this release, as `/versions` and the pages show it; the same as in pyproject.toml."""

VERSION = "0.1.0"

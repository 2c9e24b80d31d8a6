"""runtime.txt: the version of the language."""

import re
from dataclasses import dataclass

from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.refusals import quoted, unsupported

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VERSION = re.compile(r"[23](\.[0-9]{1,3}(\.([0-9]{1,3}|x|\*))?)?")
SEPARATE_KERNELS = ("2", "2.7", "3.5", "3.6")
"""The Pythons that no present Jupyter runs on: repo2docker gives them a kernel apart."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A runtime.txt. `language` and `version` are None where it has none; `has_date` tells of a snapshot's date."""

    language: str | None = None
    version: str | None = None
    has_date: bool = False
    file: str = "runtime.txt"

    @property
    def chooses_r(self) -> bool:
        """Whether R builds the repository, whatever else lies there: repo2docker wants the date for that."""
        return self.language == "r" and self.has_date

    @property
    def may_be_python(self) -> bool:
        """Whether no other language is named."""
        return self.language in (None, "python")

    def python(self) -> str | None:
        """Return the version of Python, as 3.11 or 3.11.4; None for any.

        Raise `StepError` for text that is no version, and for a Python that no present Jupyter runs on.
        """
        if self.language != "python" or self.version is None:
            return None
        if not _VERSION.fullmatch(self.version):
            raise _invalid(self.file, f"python-{self.version}")

        version = self.version.removesuffix(".x").removesuffix(".*")
        minor = ".".join(version.split(".")[:2])
        if minor in SEPARATE_KERNELS or version.startswith("2."):
            raise unsupported(self.file, f"a kernel of Python {version} beside a newer Jupyter")
        return None if version == "3" else version


def read_runtime(checkout: Checkout) -> Runtime:
    """Read runtime.txt: `<language>-<version>`, `<language>-<date>` or `<language>-<version>-<date>`.

    An empty file asks for nothing. Raise `StepError` for anything else.
    """
    path = checkout.find("runtime.txt")
    text = checkout.text(path).strip() if path else ""
    if not path or not text:
        return Runtime()

    file = checkout.name(path)
    parts = text.split("-")
    if len(parts) not in (2, 4, 5) or not all(parts):
        raise _invalid(file, text)

    has_date = len(parts) > 2
    if has_date and not _DATE.fullmatch("-".join(parts[-3:])):
        raise build_failed(f"{file} says {quoted(text)}; its date must be like 2025-01-31")
    version = parts[1] if len(parts) != 4 else None
    return Runtime(language=parts[0], version=version, has_date=has_date, file=file)


def _invalid(file: str, text: str) -> StepError:
    return build_failed(f"{file} says {quoted(text)}; it must name a Python like python-3.12")

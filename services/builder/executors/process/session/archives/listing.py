"""What an archive says of a dataset: its files, where each one is, and how it is recognised."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.common.git.words import printable
from services.common.models.errors import BinderyError
from services.common.service.redaction import quotable

_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""The number of hexadecimal digits of each checksum that archives tell."""
_HEX = re.compile(r"[0-9a-f]+")


class Packing(StrEnum):
    """What is done with the only file of a dataset, once it is there."""

    NONE = "none"
    ZIP = "zip"
    """It is unpacked if it is a ZIP file, whatever its name, and its only folder becomes the dataset's."""
    TAR = "tar"
    """It is a compressed tar file with one folder, which is the dataset."""


@dataclass(frozen=True, kw_only=True)
class Checksum:
    """A checksum, by the name that `hashlib` has for it."""

    algorithm: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file: its place in the dataset, and its address. Size and checksum are None if the archive tells none."""

    path: str
    url: str
    size_bytes: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a dataset at one version; `name` is the dataset's for sentences."""

    name: str
    files: tuple[RemoteFile, ...]
    packing: Packing = Packing.NONE


Say = Callable[[str], None]
"""Takes a line for the log."""


def shown(name: str) -> str:
    """Return a name that a stranger chose, to be shown in a sentence."""
    return printable(quotable(name))


def checksum_of(algorithm: str, digest: object) -> Checksum | None:
    """Return a checksum, whose algorithm may be written as `SHA-1`; None if it is not one that can be computed."""
    name = algorithm.lower().replace("-", "")
    text = digest.lower() if isinstance(digest, str) else ""
    is_known = len(text) == _DIGITS.get(name) and _HEX.fullmatch(text) is not None
    return Checksum(algorithm=name, digest=text) if is_known else None


def unnamed_checksum(digest: object) -> Checksum | None:
    """Return the checksum that a text without the name of an algorithm can be, by its length; None if it is none."""
    for algorithm, length in _DIGITS.items():
        if isinstance(digest, str) and len(digest) == length:
            return checksum_of(algorithm, digest)
    return None


def size_of(value: object) -> int | None:
    """Return a size in bytes; None for what can't be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text_of(entry: dict[str, Any], name: str, archive: str) -> str:
    """Return a text that must be in an entry of a listing. Raise `BinderyError("fetch_failed")` if it is not."""
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise not_understood(archive)
    return value


def object_in(entry: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the JSON object by that name in an entry; an empty one if there is none."""
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def entries_of(value: object, archive: str) -> list[dict[str, Any]]:
    """Return a list of JSON objects. Raise `BinderyError("fetch_failed")` for anything else."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise not_understood(archive)
    return value


def not_understood(archive: str) -> BinderyError:
    """Return the error for a reply that lacks what the API's documentation promises."""
    return BinderyError("fetch_failed", f"{archive} answered in a form that is not understood.")


def has_changed(dataset: str) -> BinderyError:
    """Return the error for a dataset that is not any more what its link was found to mean."""
    return BinderyError("fetch_failed", f"{dataset} was changed after this launch had begun. Launch it again.")

"""Where the paths and URLs of requirements lead."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.requirement_lines import InvalidLineError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


@dataclass(frozen=True)
class Places:
    """The places in `checkout`; a path begins in `folder`, the one in which pip would be called."""

    checkout: Checkout
    folder: Path

    def path(self, text: str, *, base: Path | None = None) -> Path:
        """Return the absolute path of `text`, from `base` if that is given, whether or not it is there.

        Raise `InvalidLineError` if it leads out of the repository, by itself or by a link.
        """
        path = Path(os.path.normpath((base or self.folder) / text))
        if "\0" in text or not self.checkout.contains(path):
            raise InvalidLineError(f"{text} leads out of the repository")
        return path

    def has_folder(self, text: str) -> bool:
        """Return whether a path is a folder. A text that can't be a path is none."""
        return os.path.isdir(self.folder / text)  # noqa: PTH112 - Path.is_dir raises for names that are too long

    def has_file(self, text: str) -> bool:
        """Return whether a path is a file. A text that can't be a path is none."""
        return os.path.isfile(self.folder / text)  # noqa: PTH113 - as above

    def project(self, text: str) -> str:
        """Return the URL of a folder that can be installed. Raise `InvalidLineError` if it can't."""
        path = self.path(text)
        if not any((path / name).is_file() for name in ("pyproject.toml", "setup.py")):
            raise InvalidLineError(f"the folder {text} has neither a pyproject.toml nor a setup.py")
        return path.as_uri()

    def location(self, text: str, *, base: Path | None = None) -> str | None:
        """Return the URL of a web page or folder with packages; None for a folder that is not there.

        A path is looked for in `base` first. Raise `InvalidLineError` if it leads out of the repository.
        """
        scheme = scheme_of(text)
        if scheme in ("http", "https"):
            return one_word(text)

        inner = path_of(text) if scheme == "file" else text
        for folder in filter(None, (base, self.folder)):
            if os.path.exists(folder / inner):  # noqa: PTH110 - as above
                return self.path(inner, base=folder).as_uri()
        return None


def one_word(url: str) -> str:
    """Return a URL without spaces, which would end it in a requirements file."""
    return re.sub(r"\s", "%20", url.strip())


def scheme_of(text: str) -> str:
    """Return the scheme of a URL in lower case; empty if the text is none."""
    scheme, mark, _ = text.partition(":")
    return scheme.lower() if mark and _SCHEME.fullmatch(scheme) else ""


def path_of(url: str) -> str:
    """Return the path of a `file:` URL, which may be relative."""
    address = url.partition("#")[0]
    try:
        path = urlsplit(address).path if "://" in address else address.partition(":")[2]
    except ValueError:
        raise InvalidLineError(f"{url!r} is not a URL") from None
    return unquote(path)

"""Where packages come from and in what form, as the lines of requirements files add up."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from services.builder.executors.process.session.plan.requirement_lines import InvalidLineError, LineOptions
from services.common.net.registries import PYPI, PYPI_OF_OLD

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class PackageOptions:
    """The options of all lines so far. pip adds them up in the order of the lines, and so does this."""

    def __init__(self) -> None:
        # None stands for PyPI, or what the operator has put in its place.
        self._indexes: list[str | None] = [None]
        self._no_index = False
        self._find_links: list[str] = []
        self._from_source: set[str] = set()
        self._from_wheels: set[str] = set()
        self._pre = False
        self._trusted_hosts: list[str] = []
        self._build_settings: list[str] = []
        self.requires_hashes = False

    def apply(self, options: LineOptions) -> None:
        """Take the options of a line without a requirement, but `--find-links`. URLs are one word each.

        Raise `InvalidLineError`.
        """
        if options.no_index:
            self._no_index = True
            self._indexes = []
        if options.index_url and not self._no_index:
            self._indexes = [_index(options.index_url)]
        if not self._no_index:
            self._indexes += [_index(url) for url in options.extra_index_urls]

        self._pre |= options.pre
        self.requires_hashes |= options.require_hashes
        for host in options.trusted_hosts:
            if not _HOST.fullmatch(host):
                raise InvalidLineError(f"{host!r} is not a host")
            self._trusted_hosts.append(host)

    def apply_formats(self, options: LineOptions) -> None:
        """Take `--no-binary` and `--only-binary`, which pip takes of every line, also beside a requirement."""
        for form, names in options.formats:
            if form == "source":
                _choose(names, self._from_source, self._from_wheels)
            else:
                _choose(names, self._from_wheels, self._from_source)

    def add_links(self, url: str) -> None:
        """Add a place of `--find-links`: a URL."""
        self._find_links.append(url)

    def add_build_setting(self, setting: str, package: str | None) -> None:
        """Add a `KEY=VALUE` for the build backend of a package, or of every package. Raise `InvalidLineError`."""
        if "=" not in setting:
            raise InvalidLineError(f"{setting!r} is not like KEY=VALUE")
        argument = f"--config-settings-package={package}:{setting}" if package else f"--config-setting={setting}"
        self._build_settings.append(argument)

    @property
    def replaces_indexes(self) -> bool:
        """Whether neither PyPI nor what the operator put in its place is asked."""
        return None not in self._indexes

    def lines(self) -> list[str]:
        """Return the options that uv takes in a requirements file. They hold for that installation only."""
        return [*self._index_lines(), *self._format_lines()]

    def arguments(self) -> list[str]:
        """Return the options that uv takes on its command line only."""
        arguments = [f"--allow-insecure-host={host}" for host in dict.fromkeys(self._trusted_hosts)]
        if len(set(self._indexes)) > 1:
            arguments.append("--index-strategy=unsafe-best-match")  # pip takes the best of all indexes
        if self._pre:
            arguments.append("--prerelease=allow")
        if self.requires_hashes:
            # pip wants no hash of what is installed already, and uv does; the file lists all the rest.
            arguments += ["--require-hashes", "--no-deps"]
        return [*arguments, *self._build_settings]

    def _index_lines(self) -> Iterator[str]:
        if self._no_index:
            yield "--no-index"
        others = [url for url in dict.fromkeys(self._indexes) if url is not None]
        for url in others:
            is_first = self.replaces_indexes and url == others[0]
            yield f"{'--index-url' if is_first else '--extra-index-url'} {url}"
        for url in dict.fromkeys(self._find_links):
            yield f"--find-links {url}"

    def _format_lines(self) -> Iterator[str]:
        for option, names in (("--no-binary", self._from_source), ("--only-binary", self._from_wheels)):
            for name in sorted(names):
                yield f"{option} {name}"


def _index(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        is_pypi = parts.hostname in (PYPI, PYPI_OF_OLD) and parts.path.strip("/") == "simple" and not parts.username
    except ValueError:
        raise InvalidLineError(f"{url!r} is not a URL") from None
    if parts.scheme not in ("http", "https", "file"):
        raise InvalidLineError(f"{url!r} is not the URL of a package index")
    return None if is_pypi else url


def _choose(names: str, target: set[str], other: set[str]) -> None:
    """Take names with commas between them, `:all:` or `:none:`, for `target`, and out of `other`."""
    if names.startswith("-"):
        raise InvalidLineError("--no-binary and --only-binary need names of packages, :all: or :none:")

    words = names.split(",")
    while ":all:" in words:
        other.clear()
        target.clear()
        target.add(":all:")
        del words[: words.index(":all:") + 1]
        if ":none:" not in words:
            return

    for word in filter(None, (word.strip() for word in words)):
        if word == ":none:":
            target.clear()
            continue
        name = canonicalize_name(word)
        if not _NAME.fullmatch(name):
            raise InvalidLineError(f"{word!r} is not the name of a package")
        other.discard(name)
        target.add(name)

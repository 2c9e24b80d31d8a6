"""What differs between installations, checked before anything is printed."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_MEMORY = re.compile(r"([1-9][0-9]*)([KMGT]?)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_MAX = 63


class OptionError(ValueError):
    """An option makes no sense; the message is a sentence for whoever gave it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `bindery hub-values`. Raises `OptionError` for one that makes no sense.

    Namespaces are those of the two releases. Sizes of memory are in bytes, or 512M, 2G in powers of 1024.
    """

    namespace: str
    bindery_namespace: str
    allowed_origins: str
    """Origins whose pages may use the servers: `*`, or a list with commas; empty: none but their own."""
    idle_timeout_seconds: int
    max_age_seconds: int
    """0, as in `idle_timeout_seconds`: no limit."""
    memory_guarantee: str
    memory_limit: str
    start_timeout_seconds: int
    start_max_seconds: int
    concurrent_spawns: int
    """Number of servers that the hub starts at once."""
    image_pull_secrets: tuple[str, ...]
    """Secrets in the hub's namespace by which nodes pull images."""
    token_secret: str
    """A Secret in the hub's namespace that has the launcher's token; empty: the chart makes a token."""

    def __post_init__(self) -> None:
        for option, name in (("--namespace", self.namespace), ("--bindery-namespace", self.bindery_namespace)):
            _check_name(option, name)
        for name in self.image_pull_secrets:
            _check_name("--image-pull-secret", name)
        if self.token_secret:
            _check_name("--token-secret", self.token_secret)

        _check_origins(self.allowed_origins)
        guarantee = _bytes("--memory-guarantee", self.memory_guarantee)
        if guarantee > _bytes("--memory-limit", self.memory_limit):
            raise OptionError(
                f"--memory-guarantee ({self.memory_guarantee}) is more than --memory-limit ({self.memory_limit}): a "
                "server can't be promised more than it may use."
            )

        _check_least("--idle-timeout", self.idle_timeout_seconds, 0)
        _check_least("--max-age", self.max_age_seconds, 0)
        _check_least("--start-timeout", self.start_timeout_seconds, 1)
        _check_least("--start-max", self.start_max_seconds, self.start_timeout_seconds)
        _check_least("--concurrent-spawns", self.concurrent_spawns, 1)


def _check_name(option: str, name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _NAME_MAX:
        raise OptionError(
            f"{option} is {name!r}: a name in Kubernetes has at most {_NAME_MAX} lower-case letters, digits and "
            "hyphens, and begins and ends with a letter or a digit."
        )


def _check_origins(origins: str) -> None:
    for origin in filter(None, (part.strip() for part in origins.split(","))):
        if origin != "*" and not _is_site(origin):
            raise OptionError(
                f"--allowed-origins has {origin!r}, which is no web site: give their addresses without a path, "
                "separated by commas, as in https://example.org, or * for all."
            )


def _is_site(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:  # brackets that hold no IPv6 address
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and not parts.path.strip("/")


def _bytes(option: str, size: str) -> int:
    """Return a size of memory as JupyterHub reads it."""
    if not (match := _MEMORY.fullmatch(size)):
        raise OptionError(f"{option} is {size!r}: give bytes, or a number with K, M, G or T, as in 512M or 2G.")
    return int(match[1]) * _UNITS[match[2]]


def _check_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise OptionError(f"{option} is {value}: it must be {least} or more.")

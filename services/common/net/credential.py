"""Credentials for web addresses: each has a scope, and goes to no address outside of it."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SUFFIXES = ("", ".git")


@dataclass(frozen=True, kw_only=True)
class ScopedCredential:
    """A user name and a password, or a token in its place, for the address `scope` and those below it.

    `scope` is a URL: of a host, or of one repository, whose address may end in `.git` or not.
    """

    scope: str
    username: str
    password: str = field(repr=False)

    def covers(self, url: str) -> bool:
        """Return whether the credential is for `url`."""
        scope = urlsplit(self.scope)
        wanted = urlsplit(url)
        if _origin(scope) != _origin(wanted):
            return False
        return any(f"{wanted.path}/".startswith(f"{path}/") for path in _paths(scope))

    def headers_for(self, url: str) -> dict[str, str]:
        """Return the headers that authenticate a request for `url` (RFC 7617); none outside of the scope."""
        return {"authorization": self._basic} if self.covers(url) else {}

    @property
    def scopes(self) -> list[str]:
        """The scope as git's configuration knows it: each address that counts, with those below it."""
        scope = urlsplit(self.scope)
        return [f"{scope.scheme}://{scope.netloc}{path}" for path in _paths(scope)]

    @property
    def git_config(self) -> tuple[tuple[str, str], ...]:
        """The configuration with which git sends the same header to the same addresses: `http.<url>.extraHeader`."""
        return tuple((f"http.{scope}.extraHeader", f"Authorization: {self._basic}") for scope in self.scopes)

    @property
    def secrets(self) -> Iterator[str]:
        """The texts that no log may contain."""
        yield self.password
        yield self._basic.removeprefix("Basic ")

    @property
    def _basic(self) -> str:
        return f"Basic {b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    return url.scheme, (url.hostname or "").lower(), url.port or _DEFAULT_PORTS.get(url.scheme)


def _paths(scope: SplitResult) -> list[str]:
    """Return the paths that begin a scope; of a host's, the empty one."""
    path = scope.path.rstrip("/").removesuffix(".git")
    return [path + suffix for suffix in _SUFFIXES] if path else [""]

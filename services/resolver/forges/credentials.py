"""The credentials that an operator has for one API: several are used in rotation, each up to its own limit."""

import hashlib
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from services.common.models import GitCredential
from services.resolver.forges.limits import Allowance


@dataclass
class Credential:
    """Headers that authenticate requests, and what is left of the requests that they allow.

    No headers at all are a credential too: an API answers some requests of anybody.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    _: KW_ONLY
    allowance: Allowance | None = None
    limited_until: float = 0.0
    """The monotonic time until which the API refuses it."""
    is_refused: bool = False
    """Whether it does so as it does not know the credential, not because of a limit."""

    @property
    def wait_seconds(self) -> float:
        """The time until it may be used again; 0 if it may be now."""
        return max(0.0, self.limited_until - time.monotonic())

    def limit(self, seconds: float, *, is_refused: bool = False) -> None:
        """Leave it alone for some time."""
        self.limited_until = time.monotonic() + seconds
        self.is_refused = is_refused

    @property
    def share_left(self) -> float:
        """The part of its requests that is left; all of them as long as nothing is known."""
        return self.allowance.share if self.allowance else 1.0


class Credentials:
    """The credentials of one API, at least one: anybody's, if the operator has none."""

    def __init__(self, credentials: Sequence[Credential]) -> None:
        self._credentials = list(credentials) or [Credential()]
        texts = [str(sorted(credential.headers.items())) for credential in self._credentials]
        self.fingerprint = hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()[:12]
        """12 hex digits that differ whenever a credential does."""

    @property
    def are_of_somebody(self) -> bool:
        """Whether any of them authenticates its requests."""
        return any(credential.headers for credential in self._credentials)

    def next(self) -> Credential | None:
        """Return the credential with most of its requests left; None if the API refuses all of them for now."""
        usable = [credential for credential in self._credentials if not credential.wait_seconds]
        return max(usable, key=lambda credential: credential.share_left, default=None)

    @property
    def wait_seconds(self) -> float:
        """The time until one of them may be used again."""
        return min(credential.wait_seconds for credential in self._credentials)

    @property
    def are_refused(self) -> bool:
        """Whether the API knows none of them."""
        return all(credential.is_refused for credential in self._credentials)

    @property
    def allowances(self) -> list[Allowance]:
        """What is left of each of which that is known."""
        return [credential.allowance for credential in self._credentials if credential.allowance]


def of_login(login: GitCredential, scheme: str) -> Credential:
    """Return the credential of somebody's own login: with a user name by HTTP's own way, else as a token."""
    password = login.password.get_secret_value()
    return basic(login.username, password) if login.username else Credential({"Authorization": f"{scheme} {password}"})


def basic(user: str, password: str) -> Credential:
    """Return the credential of HTTP's basic authentication (RFC 7617)."""
    return Credential({"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"})

"""The HTTP API of one forge or archive, as every provider asks it."""

import base64
import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from prometheus_client import Gauge

from services.common.models.errors import BinderyError
from services.common.net.hosts import plain_host
from services.common.net.http import CALLS, only_dict
from services.common.net.outbound import CheckedClient
from services.common.net.reply import Reply, ReplyTooLargeError
from services.common.service.call_accounting import call_reason
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.resolver.forges.breaker import CircuitBreaker
from services.resolver.forges.credentials import Credential, Credentials
from services.resolver.forges.limits import SECONDARY_WAIT_SECONDS, allowance, wait_seconds
from services.resolver.settings import ResolverSettings

log = get_logger(__name__)

REMAINING = Gauge(
    "bindery_forge_requests_left", "Requests that an API still answers until its limit begins anew", ["forge"]
)
REPLY_BYTES = 4 * 2**20
LOW_SHARE = 0.2
"""With less than this part of the requests left, logs and health say so."""


@dataclass(frozen=True, kw_only=True)
class ForgeHost:
    """Where an API is: `name` is for sentences, `label` for metrics, and `url` has no slash at its end.

    `is_operators` tells that settings name it, so that it may have a private address; else strangers' links do.
    """

    name: str
    label: str
    url: str
    is_operators: bool = True


class Forge:
    """A client of one API, with the credentials that the operator has for it.

    What it spares its callers: a limit that is reached is waited for by nobody, and a server that is down is not asked.
    A `client` that several share is closed by who made it.
    """

    def __init__(
        self,
        host: ForgeHost,
        settings: ResolverSettings,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Sequence[Credential] = (),
        client: CheckedClient | None = None,
    ) -> None:
        self.name = host.name
        self._host = host
        self._headers = headers or {}
        self._credentials = Credentials(credentials)
        self._is_operators_own = True
        self._breaker = CircuitBreaker(failures=settings.forge_failures_max, open_seconds=settings.forge_pause_seconds)
        policy = settings.networks
        if host.is_operators and (name := plain_host(urlsplit(host.url).hostname or "")):
            policy = policy.trusting(name)
        self._is_clients_owner = client is None
        self._client = client or CheckedClient(
            policy, proxy=settings.proxy, total_seconds=settings.forge_timeout_seconds
        )

    @property
    def fingerprint(self) -> str:
        """12 hex digits that differ whenever the credentials do: what is cached is cached for one of these."""
        return self._credentials.fingerprint

    @property
    def has_credentials(self) -> bool:
        """Whether the API is asked as somebody, who may be shown more than everybody is."""
        return self._credentials.are_of_somebody

    @property
    def remaining(self) -> int | None:
        """The requests that the API still answers until its limits begin anew; None as long as nothing is known."""
        known = self._credentials.allowances if self._is_operators_own else []
        return sum(each.remaining for each in known) if known else None

    @property
    def warning(self) -> str | None:
        """A sentence for the operator if the API does not answer, or hardly any requests are left; else None."""
        if self._breaker.is_open:
            return f"{self.name} does not answer."
        now = clock.now()
        if wait := self._credentials.wait_seconds:
            return f"{self.name} answers no requests until {_hour(now + wait)}: its limit is reached."
        known = [each for each in self._credentials.allowances if each.resets_at > now]
        limit = sum(each.limit for each in known)
        if sum(each.remaining for each in known) >= LOW_SHARE * limit:
            return None
        until = _hour(min(each.resets_at for each in known))
        return f"{self.name} has less than {LOW_SHARE:.0%} left of {limit:,} requests until {until}."

    def on_behalf_of(self, credential: Credential) -> Self:
        """Return a client of the same API, by the same connections, with somebody's own credential in place of ours.

        It learns of limits by itself, and is not closed.
        """
        theirs = copy.copy(self)
        theirs._credentials = Credentials([credential])
        theirs._is_operators_own = False
        theirs._is_clients_owner = False
        return theirs

    async def get(self, path: str, *, etag: str = "", max_bytes: int = REPLY_BYTES) -> Reply:
        """Return the reply to a GET of `path`, which begins with a slash and is percent-encoded.

        With the `etag` of an earlier reply, the status is 304 if nothing has changed. Replies that say that the API is
        down, or that a limit is reached, are errors; each other one is returned, of whatever status.

        Raise `BinderyError`: `rate_limited` (with the time until it works again), `provider_unavailable`, and
        `address_not_allowed` for a host that strangers chose; `ReplyTooLargeError` for a body of over `max_bytes`.
        """
        while credential := self._credentials.next():
            reply = await self._send(path, credential, etag, max_bytes)
            credential.allowance = allowance(reply.headers) or credential.allowance
            self._tell_allowance()

            wait = SECONDARY_WAIT_SECONDS if reply.status == 401 and credential.headers else None
            if wait is None:
                wait = wait_seconds(reply.status, reply.headers, str(json_of(reply).get("message", "")))
            if wait is None:
                return reply
            credential.limit(wait, is_refused=reply.status == 401)
            log.warning("forge_refuses_credential", forge=self._host.label, status=reply.status, seconds=round(wait))

        if self._credentials.are_refused and not self._is_operators_own:
            raise BinderyError("forbidden", f"{self.name} does not accept the credential that came with the request.")
        if self._credentials.are_refused:
            raise BinderyError("provider_unavailable", f"{self.name} does not accept the credentials of this Bindery.")
        raise self._rate_limited()

    async def _send(self, path: str, credential: Credential, etag: str, max_bytes: int) -> Reply:
        """Send one request. Raise `BinderyError` if there is no answer, or only that the server is down."""
        if not self._breaker.begin():
            raise BinderyError("provider_unavailable", f"{self.name} does not answer. It is asked again in a moment.")

        headers = {**self._headers, **credential.headers} | ({"If-None-Match": etag} if etag else {})
        CALLS.labels(self._host.label, call_reason()).inc()
        try:
            reply = await self._client.get(f"{self._host.url}{path}", headers=headers, max_bytes=max_bytes)
        except ReplyTooLargeError:  # that is what the link leads to, and no fault of the server
            self._breaker.succeeded()
            raise
        except BinderyError as error:
            is_of_the_link = error.has_code("ref_not_found") and not self._host.is_operators  # it names no host
            if is_of_the_link or error.has_code("address_not_allowed"):
                raise
            self._breaker.failed()
            log.warning("forge_unreachable", forge=self._host.label, reason=error.detail)
            raise BinderyError("provider_unavailable", f"{self.name} does not answer.") from error
        if reply.status >= 500:
            self._breaker.failed()
            log.warning("forge_failed", forge=self._host.label, status=reply.status)
            raise BinderyError("provider_unavailable", f"{self.name} answered {reply.status}.")

        self._breaker.succeeded()
        return reply

    def _rate_limited(self) -> BinderyError:
        wait = self._credentials.wait_seconds
        minutes = max(1, math.ceil(wait / 60))
        plural = "s" if minutes > 1 else ""
        return BinderyError(
            "rate_limited",
            f"{self.name} rate limit exceeded. Try again in {minutes} minute{plural}.",
            retry_after_seconds=math.ceil(wait),
        )

    def _tell_allowance(self) -> None:
        """Update the metric of what is left of the limits, and log it: the louder, the less is left."""
        known = self._credentials.allowances
        if not known or not self._is_operators_own:
            return
        remaining = sum(each.remaining for each in known)
        limit = sum(each.limit for each in known)
        REMAINING.labels(self._host.label).set(remaining)
        share = remaining / max(1, limit)
        write = log.warning if share < LOW_SHARE else log.info if share < 0.5 else log.debug
        write("forge_limit", forge=self._host.label, remaining=remaining, limit=limit)

    async def aclose(self) -> None:
        """Close every connection of its own."""
        if self._is_clients_owner:
            await self._client.aclose()


def _hour(timestamp: float) -> str:
    """Return a time of day, to the next minute: a sentence with it stays the same for a while."""
    return time.strftime("%H:%M UTC", time.gmtime(timestamp + 59))


def file_of(reply: Reply) -> bytes | None:
    """Return the file in a reply of JSON with its `content` in base64; None if there is none."""
    content = json_of(reply).get("content") if reply.status == 200 else None
    try:
        return base64.b64decode(content) if isinstance(content, str) else None
    except ValueError:
        return None


def json_of(reply: Reply) -> dict[str, Any]:
    """Return the JSON object in a reply; an empty one if it is anything else."""
    try:
        return only_dict(reply.json())
    except ValueError:
        return {}


def list_of(reply: Reply) -> list[Any]:
    """Return the JSON list in a reply; an empty one if it is anything else."""
    try:
        value = reply.json()
    except ValueError:
        return []
    return value if isinstance(value, list) else []


def objects_of(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in a list; none if it is anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []

"""GitHub's REST API, as far as resolving needs it: one commit by its name, revalidated by ETag.

The host is a setting of the operator's; only the path is made of what a user typed.
"""

import math
import re
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from cachetools import LRUCache
from prometheus_client import Gauge

from services.common.git.remote import is_full_sha
from services.common.git.words import printable
from services.common.models.errors import BinderyError
from services.common.net.hosts import plain_host
from services.common.net.http import CALLS, only_dict
from services.common.net.tls import tls_context
from services.common.service.call_accounting import call_reason
from services.common.service.logging import get_logger
from services.resolver.settings import ResolverSettings

log = get_logger(__name__)

REMAINING = Gauge("binderhub_github_rate_limit_remaining", "Requests that GitHub's API still answers until the reset")
_PAGE = re.compile(r"/([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)/commit/[0-9a-f]{40}$")
_SECONDARY_WAIT_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Commit:
    """A commit, and the repository that GitHub says it is in, as `user/repo`: another one if it was renamed."""

    sha: str
    repository: str


@dataclass(frozen=True)
class _CachedCommit:
    etag: str
    commit: Commit


@dataclass(frozen=True)
class _Missing:
    until: float
    detail: str


class GitHubApi:
    """A pooled client of the API.

    Commits are cached with their ETag and revalidated at each use; "not found" is cached for some seconds.
    """

    def __init__(self, settings: ResolverSettings) -> None:
        self._url = settings.github_api_url
        self._not_found_seconds = settings.not_found_cache_seconds
        entries = max(1, settings.ref_cache_entries)
        self._commits: MutableMapping[str, _CachedCommit] = LRUCache(entries)
        self._missing: MutableMapping[str, _Missing] = LRUCache(entries)
        self._limited_until = 0.0

        headers = {"User-Agent": "Bindery", "Accept": "application/vnd.github+json"}
        auth = None
        if token := settings.github_access_token.get_secret_value():
            headers["Authorization"] = f"token {token}"
        elif settings.github_client_id:
            auth = httpx.BasicAuth(settings.github_client_id, settings.github_client_secret.get_secret_value())

        seconds = settings.github_timeout_seconds
        host = plain_host(urlsplit(self._url).hostname or "") or ""
        proxy = settings.proxy if settings.proxy and settings.proxy.serves(host) else None
        self._client = httpx.AsyncClient(
            headers=headers,
            auth=auth,
            timeout=httpx.Timeout(seconds, connect=min(5.0, seconds)),
            limits=httpx.Limits(max_connections=50, max_keepalive_connections=20, keepalive_expiry=60),
            follow_redirects=True,
            max_redirects=5,
            verify=tls_context(),
            trust_env=False,
            proxy=httpx.Proxy(proxy.url, auth=proxy.login) if proxy else None,
        )

    async def commit(self, user: str, repo: str, ref: str) -> Commit:
        """Return the commit that `ref` names in `user/repo`.

        Raise `BinderyError`: `ref_not_found`, `rate_limited` (with the time until the limit is reset),
        `provider_unavailable`.
        """
        url = f"{self._url}/repos/{quote(user)}/{quote(repo)}/commits/{quote(ref, safe='/')}"
        self._raise_if_missing(url)
        if (wait := self._limited_until - time.monotonic()) > 0:
            raise _rate_limited(wait)

        cached = self._commits.get(url)
        headers = {"If-None-Match": cached.etag} if cached else {}
        CALLS.labels("github", call_reason()).inc()
        try:
            reply = await self._client.get(url, headers=headers)
        except httpx.HTTPError as error:
            log.warning("github_unreachable", error=type(error).__name__)
            raise BinderyError("provider_unavailable", "GitHub does not answer.") from error

        self._record_limit(reply)
        if reply.status_code == 304 and cached:
            return cached.commit
        if reply.status_code != 200:
            raise self._failure(reply, url, f"{user}/{repo}", ref)

        answer = _json(reply)
        sha = str(answer.get("sha", ""))
        page = _PAGE.search(str(answer.get("html_url", "")))
        if not is_full_sha(sha):
            raise self._remember_missing(
                url, f"{printable(ref)} is not the name of a branch, tag or commit in {user}/{repo}."
            )

        commit = Commit(sha, page[1] if page else f"{user}/{repo}")
        if etag := reply.headers.get("etag"):
            self._commits[url] = _CachedCommit(etag, commit)
        return commit

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    def _failure(self, reply: httpx.Response, url: str, name: str, ref: str) -> BinderyError:
        """Return the error for a reply other than 200, and cache it if the commit is missing."""
        status = reply.status_code
        body = _json(reply)
        if status == 451 or "block" in body:
            return self._remember_missing(url, f"GitHub has closed access to {name}.")
        if (wait := self._limit_wait_seconds(reply, body)) is not None:
            self._limited_until = time.monotonic() + wait
            log.warning("github_rate_limited", status=status, seconds=round(wait))
            return _rate_limited(wait)

        if status == 404:
            return self._remember_missing(
                url, f"There is no public repository {name} on GitHub, or no {printable(ref)} in it."
            )
        if status == 422:
            return self._remember_missing(
                url, f"There is no branch, tag or commit {printable(ref)} in {name} on GitHub."
            )
        if status == 409:
            return self._remember_missing(url, f"The repository {name} on GitHub is empty.")

        log.warning("github_failed", status=status, reason=str(body.get("message", ""))[:200])
        if status == 401:
            return BinderyError("provider_unavailable", "GitHub does not accept the credentials of this Bindery.")
        return BinderyError("provider_unavailable", f"GitHub answered {status}.")

    @staticmethod
    def _limit_wait_seconds(reply: httpx.Response, body: dict[str, Any]) -> float | None:
        """Return the seconds to wait if the reply says that a limit (primary or secondary) is reached, else None."""
        if reply.status_code not in {403, 429}:
            return None
        if _is_number(after := reply.headers.get("retry-after", "")):
            return min(max(1.0, float(after)), _LONGEST_WAIT_SECONDS)
        reset = reply.headers.get("x-ratelimit-reset", "")
        if reply.headers.get("x-ratelimit-remaining") == "0" and _is_number(reset):
            wait = float(reset) - time.time()  # noqa: TID251 - GitHub's clock
            return min(max(1.0, wait), _LONGEST_WAIT_SECONDS)
        if reply.status_code == 429 or "rate limit" in str(body.get("message", "")).lower():
            return _SECONDARY_WAIT_SECONDS
        return None

    @staticmethod
    def _record_limit(reply: httpx.Response) -> None:
        """Update the metric of what is left of the rate limit, and log it: the louder, the less is left."""
        remaining = reply.headers.get("x-ratelimit-remaining", "")
        limit = reply.headers.get("x-ratelimit-limit", "")
        if not _is_number(remaining) or not _is_number(limit):
            return

        REMAINING.set(int(remaining))
        share = int(remaining) / max(1, int(limit))
        if share < 0.2:
            write = log.warning
        elif share < 0.5:
            write = log.info
        else:
            write = log.debug

        write("github_rate_limit", remaining=int(remaining), limit=int(limit))

    def _remember_missing(self, url: str, detail: str) -> BinderyError:
        self._missing[url] = _Missing(time.monotonic() + self._not_found_seconds, detail)
        return BinderyError("ref_not_found", detail)

    def _raise_if_missing(self, url: str) -> None:
        missing = self._missing.get(url)
        if missing is None:
            return
        if missing.until > time.monotonic():
            raise BinderyError("ref_not_found", missing.detail)
        del self._missing[url]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()  # `isdigit` alone takes `²`, which `int` does not


def _json(reply: httpx.Response) -> dict[str, Any]:
    try:
        return only_dict(reply.json())
    except ValueError:
        return {}


def _rate_limited(wait_seconds: float) -> BinderyError:
    minutes = max(1, math.ceil(wait_seconds / 60))
    plural = "s" if minutes > 1 else ""
    return BinderyError(
        "rate_limited",
        f"GitHub rate limit exceeded. Try again in {minutes} minute{plural}.",
        retry_after_seconds=wait_seconds,
    )

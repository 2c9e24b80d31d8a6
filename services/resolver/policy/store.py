"""The live policy in Redis: read, changed by compare-and-set, and never made wider by a Redis that lost it.

The newest document that this resolver has ever had counts: from Redis, from its disk, or the one in memory. A Redis
that has an older one, or none, gets it back. A text that can't be read changes nothing.
"""

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common.models.errors import BinderyError
from services.common.models.policy import AuditEntry, PolicyDocument
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.redis.scripts import ScriptArg, Scripts
from services.common.service.health import CheckFailure
from services.common.service.logging import get_logger
from services.resolver.policy.copy_on_disk import CopyOnDisk
from services.resolver.policy.document import EMPTY, Change, Unreadable, parse, text_of, with_later_rules
from services.resolver.settings import ResolverSettings

log = get_logger(__name__)

REFRESH_SECONDS = 2.0
"""Longest time that a link waits for the policy to be read; then the one in memory counts."""
TRIES = 10
"""Changes of others that one change gives way to."""

RulesId = Callable[[PolicyDocument], str]
"""Returns the id of the rules that follow from a document."""


class PolicyStore:
    """The newest live policy, shared by all resolvers."""

    def __init__(self, redis: Redis, keys: Keys, settings: ResolverSettings, *, rules_id: RulesId) -> None:
        self._redis = redis
        self._keys = [keys("policy:live"), keys("policy:resolver"), keys("policy:audit")]
        self.channel = keys.policy_news
        """Channel that carries the version of each new document."""
        self._scripts = Scripts(redis, "services.resolver.policy.scripts")
        self._audit_max = settings.policy_audit_max
        self._copy = CopyOnDisk(settings.policy_dir)
        self._rules_id = rules_id
        self._refreshing = asyncio.Lock()
        self._unreadable = ""
        """Why the text in Redis is no policy; empty if it is one, or there is none."""

        self.document: PolicyDocument | None = None
        """The document that counts; None if there never was one."""

    # Reading

    async def open(self) -> None:
        """Read the copy on disk, and Redis, which may be away."""
        try:
            self.document = await asyncio.to_thread(self._copy.read)
        except Unreadable as error:
            self._copy.problem = f"The copy of the live policy can't be read: {error}"
            log.error("policy_unreadable", where="disk", reason=str(error))
        await self.try_to_refresh()

    def known(self) -> PolicyDocument:
        """Return the document that counts; an empty one if there never was any.

        Raise `BinderyError("resolver_unavailable")` if there is one, but none that can be read: it may have bans.
        """
        if self._is_unknown:
            raise BinderyError("resolver_unavailable", "The policy of this Bindery can't be read at the moment.")
        return self.document or EMPTY

    @property
    def _is_unknown(self) -> bool:
        return self.document is None and bool(self._unreadable or self._copy.problem)

    async def try_to_refresh(self) -> bool:
        """Read the document again, for a short time, if Redis answers; whether it did."""
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await self.refresh()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("policy_not_read", error=f"{type(error).__name__}: {error}")
            return False
        return True

    async def refresh(self) -> None:
        """Take the document in Redis if it is newer, or else give Redis ours. Raise what Redis does."""
        async with self._refreshing:
            is_in_force = False
            while not is_in_force:
                held = self.document
                is_in_force, stored = await self._store(held or EMPTY)
                in_redis = self._read(stored)
                if in_redis and in_redis != held and in_redis.version >= (held.version if held else 0):
                    await self._hold(in_redis)
                    is_in_force = False  # the id of its rules is to be stored, too
                elif in_redis and held and (merged := with_later_rules(held, in_redis)):
                    log.warning("policy_merged", version=merged.version, of=[held.version, in_redis.version])
                    await self._hold(merged)
                    is_in_force = False
                elif self._unreadable:
                    return

    def _read(self, stored: bytes | None) -> PolicyDocument | None:
        """Return what Redis had; None if that was nothing, or nothing that can be read."""
        try:
            document = parse(stored.decode()) if stored else None
            self._unreadable = ""
        except (Unreadable, UnicodeDecodeError) as error:
            if not self._unreadable:
                log.error("policy_unreadable", where="redis", reason=str(error))
            self._unreadable = str(error)
            return None
        return document

    async def _hold(self, document: PolicyDocument) -> None:
        if self.document and self.document.version > document.version:
            return  # a newer one came while this one was stored
        self.document = document
        log.info("policy_read", version=document.version, rules=len(document.rules))
        await asyncio.to_thread(self._copy.write, document)

    async def _store(self, document: PolicyDocument, entry: AuditEntry | None = None) -> tuple[bool, bytes | None]:
        """Return whether a document is in force now, and what Redis had before."""
        args: list[ScriptArg] = [
            document.version,
            text_of(document),
            "" if self._is_unknown else self._rules_id(document),
            entry.model_dump_json() if entry else "",
            self._audit_max,
            self.channel,
        ]
        is_in_force, stored = await self._scripts.run("store_policy", self._keys, args)
        return bool(is_in_force), stored

    # Changing

    async def change(self, make: Callable[[PolicyDocument], Change | None]) -> PolicyDocument:
        """Apply `make` to the newest document, again if another change came first, and return the result.

        Raise what `make` raises, `BinderyError("redis_unavailable")`, and `conflict` if Redis has a newer document that
        can't be read, or others change it all the time.
        """
        try:
            for _ in range(TRIES):
                await self.refresh()
                change = make(self.known())
                if change is None:
                    return self.known()

                is_in_force, _stored = await self._store(change.document, change.entry)
                if is_in_force:
                    await self._hold(change.document)
                    _log_change(change.entry)
                    return change.document
                if self._unreadable:
                    break
        except REDIS_UNAVAILABLE as error:
            raise BinderyError("redis_unavailable", f"The policy can't be changed now: {error}") from error
        reason = self._unreadable or "others are changing it"
        raise BinderyError("conflict", f"The policy was not changed: {reason}.")

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Return the last changes, newest first; those that this release can't read are left out."""
        texts = await self._redis.lrange(self._keys[2], 0, limit - 1)
        entries = []
        for text in texts:
            try:
                entries.append(AuditEntry.model_validate_json(text))
            except ValueError:
                log.warning("audit_entry_unreadable")
        return entries

    # Health

    async def health_problem(self) -> CheckFailure | None:
        """Return what keeps the live policy from being read, or from being kept on disk; None if nothing does."""
        if self._unreadable:
            detail = (
                f"The live policy in Redis ({self._keys[0]}) can't be read: {self._unreadable}. The last good one "
                "counts. Delete the key, and the resolver writes that one again."
            )
            return CheckFailure(detail, "The live policy in Redis can't be read; the last good one counts.")
        if self._copy.problem:
            return CheckFailure(self._copy.problem, "The copy of the live policy on disk can't be read or written.")
        return None


def _log_change(entry: AuditEntry) -> None:
    rule = entry.rule
    log.warning(
        "policy_changed", action=entry.action, version=entry.version, by=entry.by, reason=entry.reason,
        rule=rule.id, kind=rule.kind, provider=rule.provider, pattern=rule.pattern, end_servers=rule.end_servers,
    )  # fmt: skip

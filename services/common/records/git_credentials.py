"""Credentials for the repositories of single launches: encrypted in Redis, each under an id that says nothing.

The gateway stores one before the launch has a record. Workers of the builder alone may read it. Who needs it last
removes it: the build that it was given to, or else the launch. `credentials_ttl_seconds` bounds what a crash leaves.
"""

import base64
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from services.common.net.credential import ScopedCredential
from services.common.redis.keys import Keys
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

log = get_logger(__name__)

_PURPOSE = b"bindery: git credentials of launches"
_ID_BYTES = 24


class GitCredentials:
    """Stores, reads and removes credentials. `credentials_key` encrypts them, or the service token if that is empty."""

    def __init__(self, redis: Redis, keys: Keys, settings: ServiceSettings) -> None:
        self._redis = redis
        self._keys = keys
        self._ttl_ms = int(settings.credentials_ttl_seconds * 1000)
        key = settings.credentials_key.get_secret_value() or settings.service_token.get_secret_value()
        self._secrets = [part for part in key.replace(",", " ").split() if part]

    async def store(self, credential: ScopedCredential) -> str:
        """Store a credential and return its id."""
        credential_id = secrets.token_urlsafe(_ID_BYTES)
        sealed = self._cipher.encrypt(json.dumps(asdict(credential)).encode())
        await self._redis.set(self._key(credential_id), sealed, px=self._ttl_ms)
        return credential_id

    async def read_first(self, ids: Iterable[str]) -> ScopedCredential | None:
        """Return the first of these credentials that is still there and can be decrypted; None without any."""
        from cryptography.fernet import InvalidToken

        for credential_id in ids:
            sealed = await self._redis.get(self._key(credential_id))
            if sealed is None:
                continue
            try:
                return ScopedCredential(**json.loads(self._cipher.decrypt(sealed)))
            except InvalidToken:
                log.warning(
                    "credential_unreadable", advice="Give gateways and workers the same BINDERY_CREDENTIALS_KEY."
                )
        return None

    async def remove(self, *ids: str | None) -> None:
        """Remove credentials; those that are gone already, and None, are no error."""
        keys = [self._key(credential_id) for credential_id in ids if credential_id]
        if keys:
            await self._redis.delete(*keys)

    def _key(self, credential_id: str) -> str:
        return self._keys(f"credential:{credential_id}")

    @cached_property
    def _cipher(self) -> "MultiFernet":
        """The first secret encrypts, and each of them decrypts. Most processes never need it: it is imported late."""
        from cryptography.fernet import Fernet, MultiFernet
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        keys = [HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(secret.encode()) for secret in self._secrets]
        return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])

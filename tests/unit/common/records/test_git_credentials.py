"""Credentials of launches in Redis: encrypted, for workers alone, and gone in time."""

import contextlib

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from services.common.net.credential import ScopedCredential
from services.common.records.git_credentials import GitCredentials
from services.common.redis.keys import Keys
from services.common.service.settings import ServiceSettings
from tests.support.settings import settings_for
from tests.support.valkey import Valkey, another_context

KEYS = Keys("test")
LOGIN = ScopedCredential(scope="https://git.test/org/repo", username="ann", password="s3cret-word")


def credentials(redis: Redis, key: str = "a-key", **others: object) -> GitCredentials:
    settings = settings_for(ServiceSettings, {"service_token": "t" * 32, "credentials_key": key}, **others)
    return GitCredentials(redis, KEYS, settings)


async def test_what_is_stored_is_read_and_removed(redis: Redis) -> None:
    kept = credentials(redis)
    first = await kept.store(LOGIN)
    second = await kept.store(LOGIN)
    assert first != second
    assert await kept.read_first(["never-there", first]) == LOGIN
    await kept.remove(first, None, "never-there")
    assert await kept.read_first([first]) is None
    assert await kept.read_first([first, second]) == LOGIN


async def test_it_is_encrypted_and_expires(redis: Redis) -> None:
    credential_id = await credentials(redis, credentials_ttl_seconds=100).store(LOGIN)
    (key,) = await redis.keys("*")
    sealed = await redis.get(key)
    assert b"s3cret" not in key + sealed
    assert credential_id.encode() in key
    assert 0 < await redis.pttl(key) <= 100_000


@pytest.mark.parametrize(
    ("written", "read", "is_readable"),
    [("one", "one", True), ("one", "two, one", True), ("one, two", "two", False), ("", "", True), ("one", "", False)],
)
async def test_the_first_key_encrypts_and_each_decrypts(
    redis: Redis, written: str, read: str, is_readable: bool
) -> None:
    credential_id = await credentials(redis, written).store(LOGIN)
    found = await credentials(redis, read).read_first([credential_id])
    assert found == (LOGIN if is_readable else None)


async def test_workers_alone_may_read_one(own_valkey: Valkey) -> None:
    async with contextlib.AsyncExitStack() as stack:
        of = {
            user: (
                await stack.enter_async_context(
                    another_context(own_valkey, redis_url=own_valkey.url_of(user), service_token="t" * 32)
                )
            ).git_credentials
            for user in ("gateway", "builder", "worker", "launcher")
        }
        credential_id = await of["gateway"].store(LOGIN)
        assert await of["worker"].read_first([credential_id]) == LOGIN
        for user in ("gateway", "builder", "launcher"):
            with pytest.raises(NoPermissionError):
                await of[user].read_first([credential_id])
        with pytest.raises(NoPermissionError):
            await of["launcher"].store(LOGIN)

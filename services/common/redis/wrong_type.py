"""Keys of another type than Bindery gives them: one that is damaged must cost no other key anything."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError


def is_wrong_type(error: object) -> bool:
    """Return whether Redis answered that a key has another type than the command is for."""
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


async def execute_each(pipe: Pipeline) -> list[Any]:
    """Execute a pipeline and return its replies: None for a key of the wrong type. Raise every other error."""
    replies = await pipe.execute(raise_on_error=False)
    for number, reply in enumerate(replies):
        if is_wrong_type(reply):
            replies[number] = None
        elif isinstance(reply, Exception):
            raise reply
    return list(replies)


async def read_fields(redis: Redis, key: str, *names: str) -> list[bytes | None]:
    """Return fields of a hash. A key of another type has none of them, as if it were lost."""
    try:
        return list(await redis.hmget(key, *names))
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        return [None] * len(names)

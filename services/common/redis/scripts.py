"""Lua scripts: loaded once, run by their hash, several in one round trip."""

import hashlib
import re
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

_INCLUDE = re.compile(r"\A-- include (services/[\w/]+\.lua)\n")
_READS = re.compile(r"^-- reads only$", re.MULTILINE)


def _with_include(source: str) -> str:
    """Prepend the file that the first line of a script (`-- include <path>`) names: Lua in Redis has no `require`."""
    include = _INCLUDE.match(source)
    if include is None:
        return source
    return (files("services") / include[1].removeprefix("services/")).read_text() + source


class Scripts:
    """Lua scripts of a package, run by their hash and loaded where Redis doesn't know them.

    A script that begins with `-- include services/<path>.lua` may call the functions of that file. A script that says
    `-- reads only` is run as such, so that a Redis user who may only read its keys may run it.
    """

    def __init__(self, redis: Redis, package: str) -> None:
        self._redis = redis
        self._source = {
            p.name.removesuffix(".lua"): _with_include(p.read_text())
            for p in files(package).iterdir()
            if p.name.endswith(".lua")
        }
        self._sha: dict[str, str] = {}
        self._reading = {name for name, source in self._source.items() if _READS.search(source)}

    async def load(self) -> None:
        """Load every script; done at start, so that no launch pays for it."""
        for name, source in self._source.items():
            self._sha[name] = await self._redis.script_load(source)

    def sha(self, name: str) -> str:
        """The hash of a script."""
        return self._sha.get(name) or hashlib.sha1(self._source[name].encode(), usedforsecurity=False).hexdigest()

    async def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Run a script by name. Raises what Redis raises, but for a missing script, which is loaded."""
        try:
            return await self.call(self._redis, name, keys, args)
        except NoScriptError:
            self._sha[name] = await self._redis.script_load(self._source[name])
            return await self.call(self._redis, name, keys, args)

    def call(self, client: Redis, name: str, keys: list[str], args: list[Any]) -> Any:
        """Ask a client, or a pipeline, to run a script that Redis knows already."""
        ask = client.evalsha_ro if name in self._reading else client.evalsha
        return ask(self.sha(name), len(keys), *keys, *args)


async def run_together(redis: Redis, calls: list[tuple[Scripts, str, list[str], list[Any]]]) -> list[Any]:
    """Run several scripts in one round trip, in order. Raises the first error, after trying a missing script alone."""
    async with redis.pipeline(transaction=False) as pipe:
        for scripts, name, keys, args in calls:
            scripts.call(pipe, name, keys, args)
        answers = await pipe.execute(raise_on_error=False)
    for at, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            scripts, name, keys, args = calls[at]
            answers[at] = await scripts.run(name, keys, args)
        elif isinstance(answer, Exception):
            raise answer
    return list(answers)

"""Lua scripts: loaded once, run by their hash, several of them in one round trip if need be."""

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

ScriptArg = str | bytes | int | float
"""An argument of a script; Redis turns it into a string."""

ScriptReply = Any
"""An integer, bytes, None, or a list of these: the header of each script says what it answers."""

_INCLUDE = re.compile(r"\A-- include (services/[\w/]+\.lua)\n")
_READS_ONLY = re.compile(r"^-- reads only$", re.MULTILINE)


class ScriptCall(NamedTuple):
    """A script with its keys and arguments, to be run later or together with others."""

    scripts: "Scripts"
    name: str
    keys: Sequence[str]
    args: Sequence[ScriptArg]

    async def run(self) -> ScriptReply:
        """Run the script in a round trip of its own."""
        return await self.scripts.run(self.name, self.keys, self.args)


class Scripts:
    """The Lua scripts of one package.

    A script that begins with lines `-- include services/<path>.lua` may call the functions of those files. One that has
    the line `-- reads only` runs as a reading script, so that a Redis user who may only read its keys may run it.
    """

    def __init__(self, redis: Redis, package: str) -> None:
        self._redis = redis
        self._sources = {
            path.name.removesuffix(".lua"): _with_includes(path.read_text())
            for path in files(package).iterdir()
            if path.name.endswith(".lua")
        }
        self._reading = {name for name, source in self._sources.items() if _READS_ONLY.search(source)}
        self._sha: dict[str, str] = {}

    async def load(self) -> None:
        """Load every script into Redis; done at start, so that no launch pays for it."""
        for name, source in self._sources.items():
            self._sha[name] = await self._redis.script_load(source)

    def sha(self, name: str) -> str:
        """Return the hash of a script."""
        return self._sha.get(name) or hashlib.sha1(self._sources[name].encode(), usedforsecurity=False).hexdigest()

    async def run(self, name: str, keys: Sequence[str], args: Sequence[ScriptArg]) -> ScriptReply:
        """Run a script by name, and load it first if Redis lacks it. Raise every other error of Redis."""
        try:
            return await self.call(self._redis, name, keys, args)
        except NoScriptError:
            self._sha[name] = await self._redis.script_load(self._sources[name])
            return await self.call(self._redis, name, keys, args)

    def call(self, client: Redis, name: str, keys: Sequence[str], args: Sequence[ScriptArg]) -> ScriptReply:
        """Call a script, which Redis must know, on a client (returns an awaitable) or on a pipeline."""
        evaluate = client.evalsha_ro if name in self._reading else client.evalsha
        return evaluate(self.sha(name), len(keys), *keys, *args)


async def run_together(redis: Redis, calls: Sequence[ScriptCall]) -> list[ScriptReply]:
    """Run several scripts in one round trip, in order. Raise the first error, after loading a missing script."""
    async with redis.pipeline(transaction=False) as pipe:
        for call in calls:
            call.scripts.call(pipe, call.name, call.keys, call.args)
        answers = list(await pipe.execute(raise_on_error=False))

    for number, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            answers[number] = await calls[number].run()
        elif isinstance(answer, Exception):
            raise answer
    return answers


def _with_includes(source: str) -> str:
    """Put the files that the first lines (`-- include <path>`) name in their place: Lua in Redis has no `require`."""
    included: list[str] = []
    while include := _INCLUDE.match(source):
        included.append((files("services") / include[1].removeprefix("services/")).read_text())
        source = source[include.end() :]
    return "".join([*included, source])

"""The channels of an environment.yml as addresses, and the dependencies that name one.

A name is a folder of the operator's mirror. An address of a repository is checked as that of a submodule is; unlike
git's, the connection looks it up again.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.plan.refusals import cut, quoted
from services.builder.executors.process.session.spec import SessionSettings
from services.common.models.errors import BinderyError
from services.common.net.checked_url import checked_url
from services.common.net.hosts import is_literal
from services.common.net.networks import NetworkPolicy
from services.common.net.proxy import OutboundProxy, environment_proxy

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_OF_CHANNEL = re.compile(r"([^\s\[\]=<>!~,|]+?)::(.+)", re.DOTALL)
_PLATFORM = re.compile(r"/(?:noarch|(?:linux|osx|win|emscripten|wasi)-[a-z0-9]+)$")
_LOOK_UP_SECONDS = 20
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Channels:
    """`urls` in the order in which they count, and `dependencies` whose channels are such addresses."""

    urls: tuple[str, ...]
    dependencies: tuple[str, ...]


async def resolve(environment: CondaEnvironment, settings: SessionSettings) -> Channels:
    """Return the channels of an environment, those of the operator last, as conda adds its own.

    A dependency as `conda-forge::numpy` adds its channel. Raise `StepError` for what is no channel, and
    `address_not_allowed`.
    """
    reader = _Reader(environment.file, settings)
    for channel in environment.channels:
        await reader.add(channel)
    dependencies = [await reader.dependency(text) for text in environment.dependencies]
    if environment.adds_default_channels or not reader.urls:
        for channel in settings.conda_default_channels:
            await reader.add(channel, is_ours=True)
    return Channels(tuple(dict.fromkeys(reader.urls)), tuple(dependencies))


class _Reader:
    def __init__(self, file: str, settings: SessionSettings) -> None:
        self._file = file
        self._settings = settings
        self.urls: list[str] = []

    async def add(self, channel: str, *, is_ours: bool = False) -> list[str]:
        """Add a channel, unless it is there; return its addresses: `defaults` stands for several."""
        if channel == "defaults":
            urls = [_below(self._settings.conda_channel_alias, name) for name in self._settings.conda_defaults]
        elif is_ours or _NAME.fullmatch(channel):
            urls = [_below(self._settings.conda_channel_alias, channel)]
        else:
            await self._check(channel)
            urls = [channel.rstrip("/")]
        self.urls += urls
        return urls

    async def dependency(self, text: str) -> str:
        """Return a dependency with its channel as an address, and add that channel."""
        if text.lower().startswith(("http://", "https://", "file:")):
            if "::" not in text:
                await self._check(text.partition("#")[0])
                return text
        elif text.startswith((".", "/", "~")):
            raise build_failed(f"{self._file}, dependencies: {quoted(text)} is a path, which can't be installed here")

        if not (match := _OF_CHANNEL.fullmatch(text)):
            return text
        urls = await self.add(_PLATFORM.sub("", match[1]))
        # Of several addresses one decides; conda looks through all of them, but a specification has room for one.
        return f"{urls[0]}::{match[2]}"

    async def _check(self, url: str) -> None:
        """Raise `StepError` unless the repository may name this address."""
        if "://" not in url or url.lower().startswith("file:"):
            raise build_failed(
                f"{self._file}: {quoted(url)} is neither the name of a channel nor an address like "
                "https://example.org/channel"
            )

        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                await _check_host(url, self._settings, os.environ)
        except BinderyError as error:
            code = "address_not_allowed" if error.has_code("address_not_allowed") else "build_failed"
            raise StepError(code, f"{self._file}, channel {cut(url, 100)}: {error.detail}") from error
        except TimeoutError as error:
            message = f"{self._file}: the host of {cut(url, 100)} was not found within {_LOOK_UP_SECONDS} seconds"
            raise build_failed(message) from error


async def _check_host(url: str, settings: SessionSettings, environ: Mapping[str, str]) -> None:
    """Raise `BinderyError` unless the host of a URL may be reached. If a proxy looks names up, only literals are."""
    checked = checked_url(url)
    policy = NetworkPolicy.of(",".join(settings.allowed_networks), ",".join(settings.refused_networks))
    if is_literal(checked.host):
        policy.check(checked.host)
    elif not environment_proxy(environ) and not OutboundProxy.of_environment(environ):
        await policy.addresses(checked.host, checked.port or _PORTS[checked.scheme])


def _below(alias: str, channel: str) -> str:
    """Return the address of an operator's channel, or of a name below the alias."""
    return channel.rstrip("/") if "://" in channel else f"{alias.rstrip('/')}/{channel}"

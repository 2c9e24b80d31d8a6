"""The launches of this gateway that a changed policy refuses: they end, and so do running servers if the ban says so.

Every gateway asks the resolver about its own launches when it is told of a new policy, and now and then in case the
message was lost. A launch that begins later was resolved under the newest policy.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from services.common.context import ProcessContext
from services.common.models.errors import BinderyError
from services.common.models.policy import LinkToCheck, PolicyQuestion, RunningServer, Verdict
from services.common.service.logging import get_logger
from services.common.service.loops import RETRY_MAX_SECONDS, run_forever
from services.common.service.tasks import wait_and_clear
from services.gateway.backends import Backends
from services.gateway.launches.conductor import Conductor

log = get_logger(__name__)

LINKS_AT_ONCE = 50
"""Links that one request asks about: the resolver does nothing else while it looks at them."""
AGAIN_SECONDS = 1.0
"""After which a launch is asked about again that was being resolved, perhaps under the policy of before."""


@dataclass(eq=False, kw_only=True)
class CheckedLaunch:
    """A launch that is conducted here, and the version of the policy under which it may go on."""

    conductor: Conductor
    version: int
    is_banned: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str = ""
    """Why it is banned: the sentence for its user."""

    def ban(self, refusal: str) -> None:
        """Have the launch end."""
        self.refusal = refusal
        self.is_banned.set()


class Bans:
    """Ends what a changed policy refuses."""

    def __init__(self, context: ProcessContext, backends: Backends) -> None:
        self._backends = backends
        self._bus = context.bus
        self._launches: set[CheckedLaunch] = set()
        self._version = 0
        self._is_due = asyncio.Event()

    @contextlib.contextmanager
    def watching(self, conductor: Conductor) -> Iterator[CheckedLaunch]:
        """Watch a launch until the block ends. One that was taken over is asked about at once."""
        is_adopted = conductor.record.is_adopted
        launch = CheckedLaunch(conductor=conductor, version=-1 if is_adopted else self._version)
        if is_adopted:
            self._is_due.set()
        self._launches.add(launch)
        try:
            yield launch
        finally:
            self._launches.discard(launch)

    def on_message(self, message: bytes) -> None:
        """Handle a message on the policy's channel: the version of a new policy."""
        if message.isdigit():
            self._version = max(self._version, int(message))
        self._is_due.set()

    async def run(self) -> None:
        """Ask about launches and servers whenever the policy has changed, or may have, until cancelled."""
        self._bus.on_loss(self._is_due.set)
        wait = partial(wait_and_clear, self._is_due, seconds=self._bus.reread_seconds)
        await run_forever(
            self._check, name="bans", wait=wait, unavailable=(BinderyError,), retry_max_seconds=RETRY_MAX_SECONDS
        )

    async def _check(self) -> None:
        answer = await self._backends.verdicts(PolicyQuestion(version=self._version, links=()))
        self._version = max(self._version, answer.version)
        await self._check_launches(self._version)
        if answer.ends_servers:
            await self._end_servers()

    async def _check_launches(self, version: int) -> None:
        due = [launch for launch in self._launches if launch.version < version]
        links = [LinkToCheck(spec=each.conductor.launch.spec, repo=each.conductor.launch.repo) for each in due]
        verdicts = await self._verdicts(links)
        for launch, link, verdict in zip(due, links, verdicts, strict=True):
            if verdict.refusal:
                launch.ban(verdict.refusal)
            elif link.repo:
                launch.version = version

        if any(not link.repo and not verdict.refusal for link, verdict in zip(links, verdicts, strict=True)):
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._is_due.set)

    async def _end_servers(self) -> None:
        """End the running servers of repositories whose ban says so, also those of other gateways' launches."""
        servers: list[RunningServer] = await self._backends.running_servers()
        verdicts = await self._verdicts([server.link for server in servers])
        for server, verdict in zip(servers, verdicts, strict=True):
            if verdict.ends_servers:
                log.info("server_banned", server_id=server.server_id, reason=verdict.refusal)
                await self._backends.end_server(server.server_id)

    async def _verdicts(self, links: Sequence[LinkToCheck]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for start in range(0, len(links), LINKS_AT_ONCE):
            question = PolicyQuestion(version=self._version, links=tuple(links[start : start + LINKS_AT_ONCE]))
            verdicts += (await self._backends.verdicts(question)).verdicts
        return verdicts

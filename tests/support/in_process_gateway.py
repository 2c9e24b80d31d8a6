"""A gateway's launches in the test's process, on a real Redis; the other services do what the test says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, cast

from multidict import CIMultiDict

from services.common.context import ProcessContext, open_context, service_member
from services.common.models import (
    Build,
    BuildId,
    BuildRequest,
    BuildState,
    Event,
    GitCredential,
    Launch,
    LaunchOptions,
    LaunchState,
    Phase,
    Queue,
    ResolvedRepo,
    Server,
    ServerRequest,
    ServerState,
    Spec,
)
from services.common.models.errors import BinderyError
from services.common.models.policy import PolicyQuestion, RunningServer, Verdict, Verdicts
from services.common.net.reply import Reply
from services.common.records.owned_record import OwnedRecord
from services.common.redis.keys import Kind, Topic
from services.common.service.loops import background_tasks
from services.gateway.backends import Backends, OnUnavailable
from services.gateway.launches.launches import Launches
from services.gateway.settings import GatewaySettings
from tests.support.in_process_launcher import REPO
from tests.support.polling import until
from tests.support.sample_records import list_process
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey

IMAGE = "bindery/repo:a"


@dataclass
class FakeBackends:
    """Keeps builds and servers as records in Redis, as builder and launcher do; a test ends them."""

    context: ProcessContext
    _: KW_ONLY
    calls: list[str] = field(default_factory=list)
    no_seat: BinderyError | None = None
    """The launcher's refusal to a request whether there would be a seat."""
    owned_records: dict[str, OwnedRecord] = field(default_factory=dict)
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    """By the name of a call: it is carried out, and then its reply waits for this."""
    place: int = 0
    builds: int = 0
    requests: list[BuildRequest] = field(default_factory=list)
    stop_epochs: list[int] = field(default_factory=list)
    """The epochs of launches for which the launcher was asked to stop a server."""
    cancellations: list[tuple[str, str]] = field(default_factory=list)
    raises: dict[str, BinderyError] = field(default_factory=dict)
    banned: dict[str, str] = field(default_factory=dict)
    """The sentence for the user of each link that is banned."""
    policy_version: int = 0
    questions: list[PolicyQuestion] = field(default_factory=list)
    """What the resolver was asked about its policy."""
    servers: list[RunningServer] = field(default_factory=list)
    """The servers that run."""

    async def _record_call(self, name: str, *details: object) -> None:
        self.calls.append(" ".join(map(str, (name, *details))))
        if name in self.raises:
            raise self.raises[name]

    async def _hold_reply(self, name: str) -> None:
        if name in self.hold:
            await self.hold[name].wait()

    async def resolve(self, _spec: Spec, _login: GitCredential | None = None) -> ResolvedRepo:
        await self._record_call("resolve")
        return REPO

    async def verdicts(self, question: PolicyQuestion) -> Verdicts:
        self.questions.append(question)
        if question.version > self.policy_version:
            raise BinderyError("resolver_unavailable", "This resolver does not have the newest policy yet.")
        refusals = [self.banned.get(link.spec.spec, "") for link in question.links]
        verdicts = tuple(Verdict(refusal=refusal, ends_servers=bool(refusal)) for refusal in refusals)
        return Verdicts(version=self.policy_version, ends_servers=bool(self.banned), verdicts=verdicts)

    async def running_servers(self) -> list[RunningServer]:
        return self.servers

    async def end_server(self, server_id: str) -> None:
        await self._record_call("end", server_id)

    async def build(self, request: BuildRequest, on_unavailable: OnUnavailable | None = None) -> Build:
        await self._record_call("build")
        self.requests.append(request)
        self.builds += 1
        build = Build(
            build_id=BuildId(f"{'0' * 24}-{self.builds}"), image=IMAGE, state=BuildState.RUNNING,
            repo_url=request.repo.repo_url, ref=request.repo.ref, created_at=time.time(),
        )  # fmt: skip
        await self._create(Kind.BUILD, build.build_id or "", build, repo=request.repo.model_dump_json())
        await self._hold_reply("build")
        return build

    async def ask_builder(
        self, method: str, path: str, *, params: dict[str, str] | None = None, operator_token: str = ""
    ) -> Reply:
        assert method == "DELETE"
        self.cancellations.append((path.removeprefix("/builds/"), (params or {}).get("asker", "")))
        return Reply(status=204, headers=CIMultiDict())

    async def check_seat(self, _repo: ResolvedRepo, _resource_class: str | None = None) -> None:
        if self.no_seat:
            raise self.no_seat

    async def leave_build(self, build_id: str, _launch_ref: str, *, stop: bool) -> None:
        await self._record_call("leave", build_id, "stop" if stop else "")

    async def start_server(self, request: ServerRequest) -> Server:
        await self._record_call("start", *filter(None, [request.resource_class]))
        user = f"user-{request.launch_ref}-{request.attempt}"
        server = Server(
            server_id=Server.identity("hub", user, ""), hub_id="hub", user=user, server_name="",
            launch_ref=request.launch_ref, state=ServerState.WAITING, image=request.image,
            repo_url=request.repo.repo_url, created_at=time.time(),
        )  # fmt: skip
        await self._create(Kind.SERVER, server.server_id, server)
        await self._hold_reply("start")
        return server.updated(queue=Queue(reason="Full.", position=self.place)) if self.place else server

    async def stop_server(self, launch_ref: str, _repo_url: str, attempt: int, *, launch_epoch: int) -> None:
        self.stop_epochs.append(launch_epoch)
        await self._hold_reply("stop")
        await self._record_call("stop", launch_ref, attempt)

    async def _create(self, kind: Kind, name: str, noun: Build | Server, **fields: str) -> None:
        event = Event(phase=Phase.WAITING, message="Begun.\n")
        created, _ = await self.context.records.create(
            Topic(kind, name), noun, event, process=await list_process(self.context, "other-1"), fields=fields
        )
        if isinstance(created, OwnedRecord):
            self.owned_records[kind] = created

    async def become_ready(self) -> None:
        """Let the last server become ready, as its launcher tells of it."""
        claimed = self.owned_records[Kind.SERVER]
        stored = await self.context.records.read(claimed.topic)
        assert stored
        event = Event(phase=Phase.LAUNCHING, message="Ready.\n", state=ServerState.READY, terminal=True)
        await claimed.write(event, body=stored.model(Server).updated(state=ServerState.READY), release=True)

    async def fail_server(self, error: BinderyError) -> None:
        """Let the last server fail."""
        claimed = self.owned_records[Kind.SERVER]
        event = Event(phase=Phase.FAILED, state=ServerState.FAILED, error=error.problem, terminal=True)
        await claimed.write(event, final=True)

    async def end_build(self, state: BuildState, error: BinderyError | None = None) -> None:
        """Let the last build end."""
        claimed = self.owned_records["b"]
        stored = await self.context.records.read(claimed.topic)
        assert stored
        body = stored.model(Build).updated(state=state, error=error.problem if error else None)
        event = Event(phase=Phase.BUILT if state is BuildState.BUILT else Phase.FAILED, state=state, terminal=True)
        await claimed.write(event, body=body, final=True)


@dataclass
class Gateway:
    """One gateway process without its HTTP."""

    context: ProcessContext
    backends: FakeBackends
    launches: Launches

    async def begin(self, spec: str = "x/a", **options: Any) -> Launch:
        launch, _ = await self.launches.start(
            Spec(provider="git", spec=spec), principal="anon:x", options=LaunchOptions(**options)
        )
        return launch

    async def until(self, condition: Callable[[], bool], description: str, seconds: float = 10) -> None:
        """Wait for something that a test can see."""
        try:
            await until(condition, description, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; calls: {self.backends.calls}") from None

    async def until_build(self, number: int) -> None:
        """Wait until a build is there."""
        await self.until(
            lambda: (
                bool(self.backends.owned_records) and self.backends.owned_records["b"].topic.id.endswith(f"-{number}")
            ),
            "",
        )

    async def read_launch(self, launch: Launch) -> Launch:
        """Return the launch as its record says; reading it here does not count as following it."""
        entry = await self.context.records.read(Topic(Kind.LAUNCH, launch.launch_id))
        assert entry
        return entry.model(Launch)

    async def until_ended(self, launch: Launch, state: LaunchState) -> Launch:
        """Wait until a launch has ended, which must be as `state`, and its task with it."""
        member = self.launches.member
        topic = Topic(Kind.LAUNCH, launch.launch_id)
        await self.until(lambda: not member.owns(topic), "the launch ends")
        current = await self.read_launch(launch)
        assert current.state is state, current
        return current

    async def until_state(self, launch: Launch, state: LaunchState) -> None:
        async def is_in_state() -> bool:
            return (await self.read_launch(launch)).state is state

        await until(is_in_state, f"the launch is {state}")


@contextlib.asynccontextmanager
async def open_gateway(valkey: Valkey, **others: object) -> AsyncIterator[Gateway]:
    """Open one gateway process, as far as Redis can tell."""
    values = {"redis_url": valkey.url, "data_dir": valkey.data_dir, **QUICK, **others}
    settings = settings_for(GatewaySettings, values)
    async with open_context(settings, subscribe_all={Kind.SERVER}) as context, open_context(settings) as others_stage:
        backends = FakeBackends(others_stage)
        async with service_member(context, "gateway") as member:
            launches = Launches(context=context, member=member, backends=cast("Backends", backends), settings=settings)
            await context.bus.listen(context.keys.wake("gateway"), launches.on_message)
            await context.bus.listen(context.keys.policy_news, launches.bans.on_message)
            await member.start(on_adopt=launches.adopt)
            async with background_tasks(launches.abandonment.run(), launches.bans.run()):
                yield Gateway(context, backends, launches)

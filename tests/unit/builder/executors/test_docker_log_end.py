"""A container's end is told from its exit status and its log; an engine that can't read the log loses no build."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from services.builder.executors.base import Batch, Finished
from services.builder.executors.docker.container import EXECUTION, FIRST_LINE
from services.builder.executors.docker.executor import DockerExecutor
from services.builder.executors.docker.settings import DockerSettings
from tests.support.sample_builds import ATTEMPT
from tests.support.settings import settings_for

NAME = f"bindery-{ATTEMPT.name}"
CRASH = b'{"phase": "failed", "message": "Error during build: no such package\\n"}'
LABELS = {EXECUTION: ATTEMPT.build_id}


def frame(text: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4) + text


def stamped(text: bytes) -> bytes:
    return frame(b"2026-11-23T23:00:00.100000000Z " + text + b"\n")


UNREADABLE = frame(b"Error grabbing logs: unexpected EOF\n", stream=3)
READABLE = {"followed": stamped(FIRST_LINE) + stamped(CRASH), "tail": frame(FIRST_LINE + b"\n") + frame(CRASH + b"\n")}


class EngineOfOneContainer:
    """An engine with a container that has ended, and with containers that anybody has made."""

    def __init__(self, *, exit_code: int = 1) -> None:
        self.state = {"Status": "exited", "ExitCode": exit_code}
        self.replies: list[bytes | int] = []
        """What the next requests of a log get: bytes, or a status. After that the log can be read."""
        self.is_removed = False
        self.containers: list[object] = [{"Id": "0123456789abcdef", "Names": [f"/{NAME}"], "Labels": LABELS}]

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        if path == "/containers/json":
            return web.json_response(self.containers)
        if path.endswith("/logs"):
            reply = self.replies.pop(0) if self.replies else READABLE["tail" if "tail" in request.query else "followed"]
            if isinstance(reply, int):
                return web.json_response({"message": "it can't be read"}, status=reply)
            return web.Response(body=reply)
        return web.json_response({"Id": "0123456789abcdef", "State": self.state, "Config": {"Labels": LABELS}})


@contextlib.asynccontextmanager
async def executor_of(engine: EngineOfOneContainer, **settings: object) -> AsyncIterator[DockerExecutor]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", engine.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    values = {"docker_host": f"tcp://127.0.0.1:{runner.addresses[0][1]}"} | settings
    executor = DockerExecutor(settings_for(DockerSettings, values))
    try:
        yield executor
    finally:
        await executor.aclose()
        await runner.cleanup()


async def follow(executor: DockerExecutor) -> tuple[list[str], Finished]:
    messages: list[str] = []
    async for update in executor.follow(ATTEMPT, ""):
        if isinstance(update, Finished):
            return messages, update
        assert isinstance(update, Batch)
        messages += [line.message for line in update.lines]
    raise AssertionError("it ended without a result")


@pytest.mark.parametrize("reply", [500, UNREADABLE, b"not a frame at all", frame(b"no-time it prints\n")])
async def test_a_log_that_cant_be_read_loses_no_build_and_the_author_s_failure_stays_the_author_s(
    reply: bytes | int,
) -> None:
    engine = EngineOfOneContainer()
    engine.replies = [reply, 404]
    async with executor_of(engine, build_log_end_seconds=0) as executor:
        messages, outcome = await follow(executor)
    assert messages == ["The end of the log is missing: the engine can't read it.\n"]
    assert outcome.error_code == "build_failed"
    assert "the end of the log, with the reason, is missing" in str(outcome.error_message)


@pytest.mark.slow
@pytest.mark.parametrize("reply", [500, UNREADABLE])
async def test_a_log_that_cant_be_read_for_a_moment_is_read_again(reply: bytes | int) -> None:
    engine = EngineOfOneContainer()
    engine.replies = [reply]
    async with executor_of(engine) as executor:
        messages, outcome = await follow(executor)
    assert messages == ["Starting repo2docker ...\n", "Error during build: no such package\n"]
    assert (outcome.error_code, "no such package" in str(outcome.error_message)) == ("build_failed", True)


async def test_a_build_that_ended_well_needs_no_last_lines() -> None:
    engine = EngineOfOneContainer(exit_code=0)
    engine.replies = [READABLE["followed"], 404]
    async with executor_of(engine) as executor:
        _, outcome = await follow(executor)
    assert outcome == Finished(ok=True)


async def test_a_container_of_an_unknown_shape_keeps_no_other_from_being_listed() -> None:
    engine = EngineOfOneContainer()
    ours = {"Id": "fedcba9876543210", "State": "exited", "Names": [f"/{NAME}"], "Labels": LABELS}
    engine.containers = [*engine.containers, {"Names": 7, "Labels": LABELS}, None, "text", ours]
    async with executor_of(engine) as executor:
        executions = await executor.list()
    assert [execution.build_id for execution in executions] == [ATTEMPT.build_id]

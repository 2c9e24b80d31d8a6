"""Why a build failed, in the words of its log, on its way from the build's record to who follows the launch."""

import pytest

from services.common.models import BuildState, Cause, LaunchState
from services.common.models.errors import BinderyError
from services.common.redis.keys import Kind, Topic
from services.common.streams.entries import StreamEvent
from services.common.streams.log_store import stream_entries
from services.gateway.routes.launches import LaunchView
from services.gateway.streaming.event_formats import V1, facade_failure
from tests.support.in_process_gateway import open_gateway
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")
CAUSE = Cause(text="nothing-here was not found", after="17-3.2", rule="uv:not-found")
ERROR = BinderyError("build_failed", "nothing-here was not found. It ended with exit status 1", cause=CAUSE)


async def test_a_launch_says_why_its_build_failed_in_the_words_of_the_log(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until(lambda: bool(gateway.backends.owned_records), "the build is there")
        await gateway.backends.end_build(BuildState.FAILED, ERROR)
        await gateway.until_ended(launch, LaunchState.FAILED)
        ended = await gateway.launches.read(launch.launch_id, "anon:x")
        context = gateway.context
        entries = await stream_entries(context.redis, context.keys, Topic(Kind.LAUNCH, launch.launch_id))

    last: StreamEvent = entries[-1].events[-1]
    assert last["message"] == f"{ERROR.detail}\n"
    assert last["error"]["cause"] == CAUSE.model_dump()
    assert LaunchView.of(ended, None).error == ERROR.problem
    assert facade_failure(ended) == {"phase": "failed", "message": f"{ERROR.detail}\n", "code": "build_failed"}
    assert CAUSE.text.encode() in (V1.render(last, False) or b"")

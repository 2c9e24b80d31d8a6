"""Servers that nobody is to get: given up, or left by a launch whose record says that it ended without one."""

import json
from collections.abc import Mapping

from services.common.context import ProcessContext
from services.common.models import LaunchState, Server
from services.common.records.cancel_requests import GIVEN_UP
from services.common.records.records import StoredRecord
from services.common.redis.client import retry_while_unavailable
from services.common.redis.keys import Kind, Topic

ENDED_BADLY = {LaunchState.FAILED, LaunchState.CANCELLED}


async def unwanted(context: ProcessContext, servers: Mapping[str, StoredRecord]) -> dict[str, Server]:
    """Those of some servers, by their records. No record of a launch is no reason."""
    living = {name: server for name, stored in servers.items() if not (server := stored.model(Server)).state.is_final}
    launch_ids = {name: _launch_id(servers[name]) for name in living}
    asked = [name for name, launch_id in launch_ids.items() if launch_id]

    async def read() -> list[bytes | None]:
        async with context.redis.pipeline(transaction=False) as pipe:
            for name in asked:
                pipe.hget(context.keys.record(Topic(Kind.LAUNCH, launch_ids[name])), "state")
            return list(await pipe.execute())

    states = await retry_while_unavailable(read, seconds=context.settings.redis_patience_seconds) if asked else []
    ended = {name for name, state in zip(asked, states, strict=True) if state and state.decode() in ENDED_BADLY}
    return {name: server for name, server in living.items() if name in ended or servers[name].get(GIVEN_UP)}


def _launch_id(stored: StoredRecord) -> str:
    return str(json.loads(stored.get("request", "{}")).get("launch_id") or "")

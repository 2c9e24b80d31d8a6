"""Servers that no user will get: released by their launch, or left by a launch that ended without them.

Not in `cleanup`, which rests on `servers`: a start that is adopted is checked in the same way.
"""

import json
from collections.abc import Mapping

from services.common.context import ProcessContext
from services.common.models import LaunchState, Server
from services.common.records.cancel_requests import ABANDONED
from services.common.records.stored_record import StoredRecord
from services.common.redis.client import retry_while_unavailable
from services.common.redis.keys import Kind, Topic

ENDED_WITHOUT_SERVER = {LaunchState.FAILED, LaunchState.CANCELLED}


async def abandoned_servers(context: ProcessContext, records: Mapping[str, StoredRecord]) -> dict[str, Server]:
    """Return the servers among `records` that are abandoned, by id.

    A launch without a record does not count as ended: Redis may have lost it.
    """
    servers = {server_id: record.model(Server) for server_id, record in records.items()}
    living = {server_id: server for server_id, server in servers.items() if not server.state.is_final}
    launch_ids = {server_id: _launch_id(records[server_id]) for server_id in living}
    with_launch = [server_id for server_id, launch_id in launch_ids.items() if launch_id]

    async def read_states() -> list[bytes | None]:
        async with context.redis.pipeline(transaction=False) as pipe:
            for server_id in with_launch:
                pipe.hget(context.keys.record(Topic(Kind.LAUNCH, launch_ids[server_id])), "state")
            return list(await pipe.execute())

    states: list[bytes | None] = []
    if with_launch:
        states = await retry_while_unavailable(read_states, seconds=context.settings.redis_patience_seconds)

    without_launch = {
        server_id
        for server_id, state in zip(with_launch, states, strict=True)
        if state and state.decode() in ENDED_WITHOUT_SERVER
    }
    return {
        server_id: server
        for server_id, server in living.items()
        if server_id in without_launch or records[server_id].get(ABANDONED)
    }


def _launch_id(record: StoredRecord) -> str:
    request = json.loads(record.get("request", "{}"))
    return str(request.get("launch_id") or "")

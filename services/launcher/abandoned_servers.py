"""Servers that no user will get: released by their launch, or left by a launch that ended without them.

Not in `cleanup`, which rests on `servers`: a start that is adopted is checked in the same way.
"""

import json
from collections.abc import Mapping

from services.common.context import ProcessContext
from services.common.models import LaunchState, Server
from services.common.records.cancel_requests import ABANDONED, is_abandoned
from services.common.records.stored_record import RecordUnreadable, StoredRecord
from services.common.redis.client import retry_while_unavailable
from services.common.redis.keys import Kind, Topic
from services.common.redis.wrong_type import execute_each
from services.common.service.logging import get_logger

log = get_logger(__name__)

ENDED_WITHOUT_SERVER = {LaunchState.FAILED, LaunchState.CANCELLED}


async def abandoned_servers(context: ProcessContext, records: Mapping[str, StoredRecord]) -> dict[str, Server]:
    """Return the servers among `records` that are abandoned, by id.

    A launch without a record does not count as ended: Redis may have lost it. A server whose record can't be read is
    not among them: that record is ended by those who try to adopt it.
    """
    servers = readable_servers(records)
    living = {server_id: server for server_id, server in servers.items() if not server.state.is_final}
    launch_ids = {server_id: launch_id_of(records[server_id]) for server_id in living}
    with_launch = [server_id for server_id, launch_id in launch_ids.items() if launch_id]

    async def read_launches() -> list[list[bytes | None]]:
        async with context.redis.pipeline(transaction=False) as pipe:
            for server_id in with_launch:
                pipe.hmget(context.keys.record(Topic(Kind.LAUNCH, launch_ids[server_id])), "state", "epoch")
            return await execute_each(pipe)

    launches: list[list[bytes | None]] = []
    if with_launch:
        launches = await retry_while_unavailable(read_launches, seconds=context.settings.redis_patience_seconds)

    without_launch = set()
    epochs = dict.fromkeys(living, 0)
    for server_id, (state, epoch) in zip(with_launch, launches, strict=True):
        if state and state.decode(errors="replace") in ENDED_WITHOUT_SERVER:
            without_launch.add(server_id)
        if epoch and epoch.isdigit():
            epochs[server_id] = int(epoch)
    return {
        server_id: server
        for server_id, server in living.items()
        if server_id in without_launch or is_abandoned(records[server_id].get(ABANDONED), epochs[server_id])
    }


def readable_servers(records: Mapping[str, StoredRecord]) -> dict[str, Server]:
    """Return the servers of the records that this release can read, by id."""
    servers = {}
    for server_id, record in records.items():
        try:
            servers[server_id] = record.model(Server)
        except RecordUnreadable as error:
            if record.get("final") == "1":
                continue  # told when it was ended; its server may be listed for days
            log.warning("record_unreadable", noun=record.topic.name, reason=error.reason)
    return servers


def launch_id_of(record: StoredRecord) -> str:
    """Return the id of a server's launch; nothing if its record does not name one."""
    try:
        return str(json.loads(record.get("request", "{}")).get("launch_id") or "")
    except (ValueError, AttributeError):  # damaged: the start that is adopted fails of it
        return ""

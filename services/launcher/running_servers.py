"""The servers that run or start, with the links that they were launched by."""

from pydantic import ValidationError

from services.common.context import ProcessContext
from services.common.models import ServerRequest, Spec
from services.common.models.policy import LinkToCheck, RunningServer
from services.common.redis.keys import Kind, Topic
from services.common.redis.wrong_type import execute_each
from services.common.service.logging import get_logger
from services.launcher.seats.seats import Seats

log = get_logger(__name__)

READ_BATCH = 200
"""Records read in one round trip."""


async def running_servers(context: ProcessContext, seats: Seats) -> list[RunningServer]:
    """Return the servers that hold a seat and have not ended; one whose record is lost or damaged is left out."""
    server_ids = list(await seats.holders())
    servers = []
    for start in range(0, len(server_ids), READ_BATCH):
        batch = server_ids[start : start + READ_BATCH]
        async with context.redis.pipeline(transaction=False) as pipe:
            for server_id in batch:
                pipe.hmget(context.keys.record(Topic(Kind.SERVER, server_id)), "request", "final")
            answers = await execute_each(pipe)
        for server_id, answer in zip(batch, answers, strict=True):
            request, final = answer or (None, None)
            if request and final != b"1" and (server := _server(server_id, request)):
                servers.append(server)
    return servers


def _server(server_id: str, raw_request: bytes) -> RunningServer | None:
    try:
        repo = ServerRequest.model_validate_json(raw_request).repo
    except ValidationError:
        log.warning("record_unreadable", noun=f"s:{server_id}", reason="its request")
        return None
    return RunningServer(
        server_id=server_id, link=LinkToCheck(spec=Spec(provider=repo.provider, spec=repo.spec), repo=repo)
    )

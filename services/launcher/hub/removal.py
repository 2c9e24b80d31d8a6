"""Removal of a server and its temporary user from the hub."""

import asyncio

from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger
from services.launcher.hub.client import Hub
from services.launcher.hub.errors import HubUnavailable

log = get_logger(__name__)

POLL_SECONDS = 0.2


async def remove_from_hub(hub: Hub, user: str, server_name: str, *, seconds: float) -> bool:
    """Stop a server and delete its temporary user. Return whether both are gone within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await hub.delete_server(user, server_name):
                await asyncio.sleep(POLL_SECONDS)
            while not await hub.delete_user(user):
                await asyncio.sleep(POLL_SECONDS)
    except (TimeoutError, HubUnavailable, BinderyError) as error:
        log.warning("removal_left_to_reaper", user=user, error=str(error) or type(error).__name__)
        return False
    return True

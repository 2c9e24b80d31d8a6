"""Seats on a real Redis, and servers that ask for one."""

from services.common.context import ProcessContext
from services.common.models import ResolvedRepo, Server, ServerId, ServerState
from services.launcher.seats.positions import SeatAnswer, SeatPosition
from services.launcher.seats.seats import Seats
from services.launcher.settings import LauncherSettings
from tests.support.in_process_launcher import REPO
from tests.support.settings import settings_for

CLASSES = {"default": {}, "large": {"cost": 3}, "huge": {"cost": 9}}


def seats_of(context: ProcessContext, total: int, **overrides: object) -> Seats:
    settings = {"seats_total": total, "resource_classes": CLASSES, "resource_class": "default", **overrides}
    return Seats(context, settings_for(LauncherSettings, settings))


def repo_of(name: str, quota: int | None = None, resource_class: str | None = None) -> ResolvedRepo:
    return REPO.updated(repo_url=f"https://example.org/{name}", quota=quota, resource_class=resource_class)


def server(number: int) -> Server:
    """A server that is asked for as the `number`th."""
    return Server(
        server_id=ServerId(f"server-{number:03d}"), hub_id="hub", user=f"user-{number}", server_name="",
        launch_ref="ref", state=ServerState.WAITING, image="image", repo_url="https://example.org/x",
        url="https://example.org/user/x/", created_at=1000.0 + number,
    )  # fmt: skip


async def ask(seats: Seats, number: int, repo: str = "a", quota: int | None = None, kind: str | None = None) -> int:
    return (await seats.take(server(number), repo_of(repo, quota, kind))).number


async def look(seats: Seats, *numbers: int) -> list[int]:
    """Where some servers stand now."""
    with_places = []
    for number in numbers:
        with seats.watch(f"server-{number:03d}", SeatPosition(SeatAnswer.UNKNOWN)) as watched:
            await seats.refresh()
            with_places.append(watched.position.number)
    return with_places

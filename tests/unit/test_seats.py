"""Seats in a real Redis: a set by identity, with a queue in front of it."""

import asyncio
import time

import pytest

from services.common.models import Server, ServerId, ServerState
from services.common.stage import Stage
from services.launcher.seats import Seats
from services.launcher.settings import LauncherSettings


def seats_of(stage: Stage, total: int) -> Seats:
    return Seats(stage, LauncherSettings.model_validate({"seats_total": total}))


def server(number: int) -> Server:
    return Server(
        server_id=ServerId(f"server-{number:02d}"), hub_id="hub", user=f"user-{number}", server_name="",
        launch_ref="ref", state=ServerState.WAITING, image="image", repo_url="https://example.org/x",
        url="https://example.org/user/x/", created_at=time.time(),
    )  # fmt: skip


async def test_seats_are_taken_until_there_are_none_and_then_there_is_a_queue(stage: Stage) -> None:
    seats = seats_of(stage, 2)
    assert [await seats.take(server(number)) for number in range(5)] == [0, 0, 1, 2, 3]
    assert sorted(await seats.members()) == ["server-00", "server-01"]
    assert await seats.waiting() == ["server-02", "server-03", "server-04"]


async def test_taking_twice_is_taking_once(stage: Stage) -> None:
    seats = seats_of(stage, 1)
    assert [await seats.take(server(1)) for _ in range(3)] == [0, 0, 0]
    assert [await seats.take(server(2)) for _ in range(3)] == [1, 1, 1]
    assert len(await seats.members()) == 1


async def test_a_seat_given_back_goes_to_the_first_in_the_queue(stage: Stage) -> None:
    seats = seats_of(stage, 1)
    for number in range(3):
        await seats.take(server(number))
    await seats.give_back("server-00")
    assert await seats.take(server(2)) == 2
    assert await seats.take(server(1)) == 0
    assert await seats.take(server(2)) == 1


async def test_who_leaves_the_queue_moves_the_others_up(stage: Stage) -> None:
    seats = seats_of(stage, 1)
    for number in range(4):
        await seats.take(server(number))
    await seats.give_back("server-01")
    assert await seats.take(server(3)) == 2


async def test_however_many_ask_at_once_no_more_seats_are_taken_than_there_are(stage: Stage) -> None:
    seats = seats_of(stage, 5)
    places = await asyncio.gather(*(seats.take(server(number)) for number in range(40)))
    assert sorted(places) == [0] * 5 + list(range(1, 36))


@pytest.mark.parametrize(("total", "place"), [(-1, 0), (0, 1)])
async def test_without_a_limit_everyone_sits_and_with_none_nobody_does(stage: Stage, total: int, place: int) -> None:
    assert await seats_of(stage, total).take(server(1)) == place


async def test_a_server_that_the_hub_lists_holds_a_seat_which_it_may_have_had_before(stage: Stage) -> None:
    seats = seats_of(stage, 2)
    await seats.take(server(1))
    reserved = await seats.members()
    await seats.count("server-01")
    await seats.count("server-02")
    members = await seats.members()
    assert members["server-01"] == reserved["server-01"]
    assert await seats.take(server(3)) == 1

"""Loops that no error ends, and the end of a background task that ends its process."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from services.common.service.health import Health
from services.common.service.loops import UnexpectedEnd, background_state, background_tasks, run_forever
from services.common.service.settings import ServiceSettings
from services.common.web.app import create_service
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.settings import settings_for


class Odd(Exception):
    """An error that nobody foresaw."""


async def test_a_loop_goes_on_after_any_exception_and_counts_it(capfd: pytest.CaptureFixture[str]) -> None:
    rounds = 0
    done = asyncio.Event()

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds <= 9:
            raise Odd(rounds)
        if rounds == 11:
            done.set()

    before = sample("bindery_loop_failures_total", loop="odd")
    async with background_tasks(run_forever(step, name="odd", retry_max_seconds=0.01)), asyncio.timeout(60):
        await done.wait()

    assert sample("bindery_loop_failures_total", loop="odd") - before == 9
    output = "".join(capfd.readouterr())
    assert output.count("Traceback") <= 1, "one traceback in a row of failures is enough"
    assert output.count("loop_failed") == 4, "the 1st, 2nd, 4th and 8th failure in a row are logged"


async def test_a_failed_step_is_repeated_without_the_wait() -> None:
    rounds: list[float] = []

    async def step() -> None:
        rounds.append(asyncio.get_running_loop().time())
        if len(rounds) == 1:
            raise Odd

    waits = 0

    async def wait() -> None:
        nonlocal waits
        waits += 1
        if waits > 1:
            await asyncio.Event().wait()

    async with background_tasks(run_forever(step, name="odd", wait=wait)), asyncio.timeout(60):
        await until(lambda: len(rounds) >= 2)
    assert waits == 2  # before the first step, and after the one that succeeded


async def test_a_loop_goes_on_when_what_its_step_awaits_was_cancelled() -> None:
    """Only a cancel of the loop itself ends it: any library may cancel what it shares with a step."""
    rounds = 0
    done = asyncio.Event()

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            shared = asyncio.get_running_loop().create_future()
            shared.cancel()
            await shared
        done.set()

    before = sample("bindery_loop_failures_total", loop="odd")
    async with background_tasks(run_forever(step, name="odd", retry_max_seconds=0.01)), asyncio.timeout(60):
        await done.wait()
    assert sample("bindery_loop_failures_total", loop="odd") - before == 1


async def test_a_loop_goes_on_after_an_exception_of_its_wait() -> None:
    waits = 0
    done = asyncio.Event()

    async def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            raise Odd

    async def step() -> None:
        if waits > 1:
            done.set()

    before = sample("bindery_loop_failures_total", loop="odd")
    async with background_tasks(run_forever(step, name="odd", wait=wait, retry_max_seconds=0.01)), asyncio.timeout(60):
        await done.wait()
    assert sample("bindery_loop_failures_total", loop="odd") - before == 1


async def test_a_background_task_that_was_cancelled_is_logged_as_that(capfd: pytest.CaptureFixture[str]) -> None:
    async def ends() -> None:
        raise asyncio.CancelledError

    with pytest.raises(UnexpectedEnd):
        async with background_tasks(ends()), asyncio.timeout(60):
            await background_state().ended.wait()
    assert background_state().end_reason.endswith("it was cancelled")
    assert "it was cancelled" in "".join(capfd.readouterr())


async def test_a_loop_ends_when_it_is_cancelled() -> None:
    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        raise Odd

    loop = asyncio.create_task(run_forever(step, name="odd", retry_max_seconds=0.01))
    await until(lambda: rounds >= 2)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
    assert background_state().loops == set()


async def test_only_a_step_that_lasts_long_has_stalled() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    async def at_once() -> None:
        pass

    state = background_state()
    async with background_tasks(
        run_forever(for_ever, name="stuck"),
        run_forever(for_ever, name="session", is_session=True),
        run_forever(at_once, name="waiting", wait=for_ever),
    ):
        await until(lambda: state.stalled_loops(0.05))
        assert state.stalled_loops(0.01) == ["stuck"]  # the others have run for about as long
        assert state.stalled_loops(10) == []


async def test_a_background_task_that_ends_makes_health_false_at_once() -> None:
    health = Health()
    health.add("fine", lambda: asyncio.sleep(0))
    await health.check_now()
    assert health.rendered()[0]

    async def ends() -> None:
        raise Odd("gone")

    async def block() -> None:
        async with background_tasks(ends()):
            async with asyncio.timeout(60):
                await background_state().ended.wait()
            ok, body = health.rendered()
            assert not ok
            assert b"Background work" in body

    with pytest.raises(UnexpectedEnd, match="ends"):
        await block()


async def test_a_task_may_end_once_the_process_is_to_end() -> None:
    state = background_state()
    served = asyncio.Event()

    async def serves_until_then() -> None:
        await state.stopping.wait()
        served.set()

    async with background_tasks(serves_until_then()):
        state.stopping.set()
        await served.wait()
        await asyncio.sleep(0)  # its end is looked at by a callback
    assert not state.ended.is_set()


def ending_service(how: str, **settings: object) -> Coroutine[Any, Any, asyncio.subprocess.Process]:
    """Start the service of `tests.support.ending_service`."""
    environ = {f"BINDERY_{name.upper()}": str(value) for name, value in settings.items()}
    return asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.ending_service",
        how,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.mark.parametrize("how", ["returns", "raises", "hangs"])
async def test_a_process_ends_with_its_background_task(how: str) -> None:
    """Uvicorn alone would go on serving; a process that hangs in its end is killed."""
    process = await ending_service(how)
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert process.returncode == 1, output.decode()
    assert "part_ended" in output.decode()


@pytest.mark.parametrize(("how", "status"), [("fails_in_end", 1), ("ends_well", 0)])
async def test_the_exit_status_after_a_signal_says_whether_the_end_went_well(how: str, status: int) -> None:
    process = await ending_service(how)
    assert process.stdout
    async with asyncio.timeout(30):
        while b"started" not in await process.stdout.readline():
            assert not process.stdout.at_eof()
        process.terminate()
        output, _ = await process.communicate()
    assert process.returncode == status, output.decode()


async def answers(client: httpx.AsyncClient, path: str) -> bool:
    """Return whether somebody listens, and answers with 200."""
    try:
        return (await client.get(path)).status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize("how", ["ends_well", "raises_when_asked"])
async def test_a_process_that_is_to_end_is_not_ready_and_notified_while_requests_are_open(
    how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The request that is open waits for that, and would be cut off otherwise."""
    socket = tmp_path_factory.mktemp("s") / "service"
    process = await ending_service(how, listen_socket=socket)
    assert process.stdout
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with asyncio.timeout(30), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        # The socket's file is there a moment before somebody listens to it.
        await until(lambda: answers(client, "/livez"), "the service answers")
        asking = asyncio.create_task(client.get("/until-stopping", timeout=30))
        while b"a request is open" not in await process.stdout.readline():
            assert not process.stdout.at_eof()
        if how == "ends_well":
            process.terminate()
        assert (await asking).json() == 503
        await process.communicate()


async def test_probes_ask_nothing_of_others() -> None:
    health = Health()
    health.add("Redis", lambda: asyncio.sleep(0, "away"))
    settings = settings_for(ServiceSettings, {"service_token": "t" * 32, "loop_stalled_seconds": 0.01})
    app = create_service(settings, name="test", health=health)
    state = background_state()

    async def stuck() -> None:
        await asyncio.Event().wait()

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:

        async def status(path: str) -> int:
            return (await client.get(path)).status_code

        await health.check_now()
        assert await status("/health") == 503
        assert await status("/livez") == 200
        assert await status("/readyz") == 200

        async with background_tasks(run_forever(stuck, name="stuck")):
            await until(lambda: state.stalled_loops(0.01))
            answer = await client.get("/livez")
            assert answer.status_code == 503
            assert "stuck" in answer.text
            assert await status("/readyz") == 200

        state.stopping.set()
        assert await status("/livez") == 200
        assert await status("/readyz") == 503

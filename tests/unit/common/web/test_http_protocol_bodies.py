"""Bodies and answers: deadlines for a client that sends or reads too slowly, and bodies that are not read."""

import asyncio
import tracemalloc

import pytest

from tests.support.echo_app import GET, MIB, Echo, problem_of, refusal_count
from tests.support.polling import until
from tests.support.serving import SECONDS, connect, serving


@pytest.mark.parametrize("drips", [False, True])
async def test_a_request_ends_when_its_body_stalls(drips: bool) -> None:
    app = Echo()
    with serving(app, http_body_timeout_seconds=0.3) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\nabc")

            async def drip() -> None:
                while drips:
                    await wire.send(b"d")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            status, headers, body = await wire.answer()
            dripping.cancel()
            assert (status, headers["connection"]) == (408, "close")
            assert problem_of(body) == ("request_timeout", "Its body stood still for 0.3 s.")
            await asyncio.to_thread(app.client_left.wait, SECONDS)
    assert app.client_left.is_set()


@pytest.mark.slow
async def test_a_slow_body_that_moves_is_taken_to_its_end() -> None:
    with serving(Echo(), http_body_timeout_seconds=0.3) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 30000\r\n\r\n")
            for _ in range(10):
                await wire.send(b"b" * 3000)
                await asyncio.sleep(0.08)  # the pace of a slow client, in all more than its deadline
            assert len((await wire.answer())[2]) == 30_003


async def test_an_unread_body_is_discarded_and_its_answer_still_arrives() -> None:
    with serving(Echo()) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (64 * MIB))
            tracemalloc.start()
            for _ in range(256):
                await wire.send(b"b" * (MIB // 4))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert (await wire.answer())[0] == 401
            await wire.send(GET)  # all of it has come: the connection is as good as any
            assert (await wire.answer())[0] == 200
    assert peak < 4 * MIB


@pytest.mark.parametrize("still_sends", [False, True])
async def test_a_client_that_does_not_finish_an_answered_request_is_disconnected(still_sends: bool) -> None:
    with serving(Echo(), http_head_timeout_seconds=0.3) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % MIB**2)

            async def go_on() -> None:
                while still_sends:
                    await wire.send(b"b" * 1000)
                    await asyncio.sleep(0.02)

            sending = asyncio.create_task(go_on())
            assert (await wire.answer())[0] == 401
            assert await wire.rest() == b""
            sending.cancel()


async def test_trailers_do_not_become_headers() -> None:
    app = Echo()
    with serving(app) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
            await wire.send(b"1\r\na\r\n0\r\nx-forwarded-for: 6.6.6.6\r\n\r\n")
            assert (await wire.answer())[2] == b"/x a"
    assert [name for name, _ in app.headers] == [b"host", b"transfer-encoding"]


async def test_endless_trailers_are_refused_as_a_head_is() -> None:
    with serving(Echo(), http_head_max_bytes=4000) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
            for _ in range(3000):  # more than a piece, whatever the head came with
                await wire.send(b"a: b\r\n")
            assert (await wire.answer())[0] == 431


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"])
async def test_a_client_that_reads_nothing_of_its_answer_is_disconnected(last: bytes) -> None:
    before = refusal_count("send_time")
    with serving(Echo(), send_timeout_seconds=0.3) as server:
        async with connect(server) as wire:
            await wire.send(b"GET /large HTTP/1.1\r\nhost: a\r\n" + last + b"\r\n")
            await until(lambda: refusal_count("send_time") > before)
            await until(lambda: not server.server_state.connections)
            assert len(await wire.rest()) < 64 * MIB


@pytest.mark.slow
async def test_a_slow_client_gets_all_of_its_answer() -> None:
    before = refusal_count("send_time")
    with serving(Echo(), send_timeout_seconds=0.3) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=MIB)
        writer.write(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        length = 0
        while length < 64 * MIB:
            length += len(await reader.read(2 * MIB))
            await asyncio.sleep(0.02)  # its pace: all takes longer than the deadline
        writer.close()
    assert refusal_count("send_time") == before

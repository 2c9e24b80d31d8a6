"""Heads of requests: their size, their deadline, and heads that are refused, seen from the other end."""

import asyncio
import threading
import time
import tracemalloc
from typing import Any

import pytest

from services.common.web.http_protocol import LATE_TIMER_SECONDS
from tests.support.echo_app import GET, MIB, Echo, problem_of
from tests.support.polling import until
from tests.support.serving import SECONDS, connect, serving


async def test_an_endless_head_is_refused_and_takes_no_more_memory() -> None:
    with serving(Echo(), http_head_max_bytes=10_000) as server:
        async with connect(server) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
            tracemalloc.start()
            for _ in range(64):  # 16 MiB
                await wire.send(b"x-more: " + b"a" * (256 * 1024 - 10) + b"\r\n")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            status, headers, body = await wire.answer()
    assert (status, headers["content-type"], headers["connection"]) == (431, "application/problem+json", "close")
    assert problem_of(body) == (
        "request_too_large", "The head of a request, its line and headers, may have 10000 bytes at most."
    )  # fmt: skip
    assert peak < 4 * MIB


@pytest.mark.parametrize("beginning", [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx: "])
async def test_a_head_is_refused_at_its_limit_whichever_part_grows(beginning: bytes) -> None:
    with serving(Echo(), http_head_max_bytes=1000) as server:
        async with connect(server) as wire:
            for _ in range(500):
                await wire.send(beginning)
                beginning = b"y" * 10 if beginning.endswith((b"/", b" ", b"y")) else b"y: y\r\n"
            assert (await wire.answer())[0] == 431


async def test_a_head_may_be_as_long_as_its_limit_and_no_longer() -> None:
    app = Echo()
    with serving(app, http_head_max_bytes=1000) as server:
        for length, status in ((1000, 200), (1001, 431)):
            async with connect(server) as wire:
                await wire.send(b"GET /x HTTP/1.1\r\nhost: a\r\nx: ")
                await wire.send(b"a" * (length - 33) + b"\r\n\r\n")
                assert (await wire.answer())[0] == status
    assert app.paths == ["/x"]


async def test_a_large_body_is_not_a_large_head_and_the_request_after_it_is_answered() -> None:
    with serving(Echo(), http_head_max_bytes=1000) as server:
        async with connect(server) as wire:
            body = b"b" * 300_000
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n" + body + GET)
            assert (await wire.answer())[2] == b"/x " + body
            assert (await wire.answer())[2] == b"/x "


async def test_each_byte_is_read_once_however_a_request_is_cut() -> None:
    body = b"0123456789" * 99
    request = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 990\r\n\r\n" + body
    with serving(Echo(), http_head_max_bytes=1000) as server:
        connections: set[Any] = server.server_state.connections
        for cut in (1, 20, 41, 45, 49):  # from 41 on the rest alone is no larger than a head may be, with the cut it is
            async with connect(server) as wire:
                await wire.send(request[:cut])
                await until(lambda at=cut: [connection._unspent_bytes for connection in connections] == [at])
                await wire.send(request[cut:])
                assert (await wire.answer())[2] == b"/x " + body
                await wire.send(GET)
                assert (await wire.answer())[2] == b"/x "
            await until(lambda: not connections)


@pytest.mark.parametrize("beginning", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\n", b"\r\n"])
async def test_a_head_that_does_not_arrive_times_out(beginning: bytes) -> None:
    with serving(Echo(), http_head_timeout_seconds=0.2) as server:
        async with connect(server) as wire:
            await wire.send(beginning)
            answer = await wire.rest()
    if beginning.strip():
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert problem_of(answer.partition(b"\r\n\r\n")[2]) == ("request_timeout", "Its head took longer than 0.2 s.")
    else:  # a browser opens connections ahead of any request: those are closed without a word
        assert answer == b""


async def test_a_dripping_head_times_out_all_the_same() -> None:
    with serving(Echo(), http_head_timeout_seconds=0.3) as server:
        async with connect(server) as wire:

            async def drip() -> None:
                await wire.send(b"GET / HTTP/1.1\r\n")
                while True:
                    await wire.send(b"a: b\r\n")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            assert (await wire.answer())[0] == 408
            dripping.cancel()


async def test_a_connection_kept_alive_may_be_silent_for_longer_than_a_head_may_take() -> None:
    with serving(Echo(), http_head_timeout_seconds=0.2) as server:
        async with connect(server) as wire, connect(server) as silent:
            await wire.send(GET)
            await wire.answer()
            assert await silent.rest() == b""  # by now the deadline of a head has passed
            await wire.send(GET)
            assert (await wire.answer())[0] == 200


@pytest.mark.slow
async def test_a_client_is_not_charged_for_time_in_which_the_process_stood_still() -> None:
    with serving(Echo(), http_head_timeout_seconds=0.5, http_body_timeout_seconds=0.5) as server:
        async with connect(server) as head, connect(server) as body:
            await head.send(b"GET /head HTTP/1.1\r\n")
            await body.send(b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
            stands_still = threading.Event()

            def stand_still() -> None:
                stands_still.set()
                time.sleep(LATE_TIMER_SECONDS + 1)

            server.loop.call_soon_threadsafe(stand_still)
            await asyncio.to_thread(stands_still.wait, SECONDS)
            await head.send(b"host: a\r\n\r\n")
            await body.send(b"abc")
            assert (await head.answer())[2] == b"/head "
            assert (await body.answer())[2] == b"/body abc"


async def test_a_request_for_another_protocol_is_answered_in_this_one() -> None:
    with serving(Echo()) as server:
        async with connect(server) as wire:
            await wire.send(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await wire.rest() == b""


async def test_bytes_that_are_not_http_are_answered_with_an_error() -> None:
    with serving(Echo()) as server:
        async with connect(server) as wire:
            await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            status, _, body = await wire.answer()
    assert (status, problem_of(body)[0]) == (400, "bad_request")
    assert "HTTP/1.1" in problem_of(body)[1]


@pytest.mark.parametrize(
    ("head", "detail"),
    [
        (b"POST /x HTTP/1.1\r\n", "It has no Host header: send one."),
        (b"POST /x HTTP/1.1\r\nhost: a\r\nHOST: b\r\n", "It has several Host headers: send one."),
        (b"POST /x HTTP/1.0\r\nhost: a\r\nhost: a\r\n", "It has several Host headers: send one."),
        *(
            (
                b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n" + body,
                "It has a body and asks for another protocol: send it without `Upgrade`, as HTTP/1.1.",
            )
            for body in (b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n")
        ),
    ],
)
@pytest.mark.parametrize("before", [b"", b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"])
async def test_an_ambiguous_head_reaches_no_application(before: bytes, head: bytes, detail: str) -> None:
    app = Echo()
    with serving(app) as server:
        async with connect(server) as wire:
            if before:
                await wire.send(before)
                assert (await wire.answer())[0] == 401
            await wire.send(head + b"\r\nhello")
            status, headers, body = await wire.answer()
            assert (status, headers["connection"], problem_of(body)) == (400, "close", ("bad_request", detail))
            assert await wire.rest() == b""
    assert "/x" not in app.paths


async def test_an_ambiguous_head_is_not_answered_in_place_of_the_request_before_it() -> None:
    with serving(Echo()) as server:
        async with connect(server) as wire:
            await wire.send(b"POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
            assert await wire.rest() == b""


async def test_a_request_of_http_1_0_needs_no_host() -> None:
    with serving(Echo()) as server:
        async with connect(server) as wire:
            await wire.send(b"GET /x HTTP/1.0\r\n\r\n")
            assert (await wire.answer())[2] == b"/x "

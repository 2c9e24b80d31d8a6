"""Bounds and deadlines of every connection to a service, seen from its other end."""

import asyncio
import json
import threading
import time
import tracemalloc
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send

from services.common.web.app import send_bytes
from services.common.web.http_protocol import STOOD_STILL_SECONDS
from tests.support.polling import until
from tests.support.serving import SECONDS, connected, serving

GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
MIB = 2**20


class Echo:
    """Answers with its path and the body; what is asked under `/unread` without reading it, `/large` with a lot."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.asked: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        self.asked.append(path)
        body = b""
        while path not in {"/unread", "/large"}:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.headers = scope["headers"]
        if path == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
            return
        body = b"x" * 64 * MIB if path == "/large" else path.encode() + b" " + body
        await send_bytes(send, body, "text/plain", 401 if path == "/unread" else 200)


def refused(why: str) -> float:
    return REGISTRY.get_sample_value("bindery_http_refused_total", {"why": why}) or 0.0


def said(body: bytes) -> tuple[str, str]:
    problem = json.loads(body)
    return problem["code"], problem["detail"]


# Heads


async def test_a_head_without_end_is_refused_and_takes_no_more_memory() -> None:
    with serving(Echo(), http_head_max_bytes=10_000) as server:
        async with connected(server) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
            tracemalloc.start()
            for _ in range(64):  # 16 MiB
                await wire.send(b"x-more: " + b"a" * (256 * 1024 - 10) + b"\r\n")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            status, headers, body = await wire.answer()
    assert (status, headers["content-type"], headers["connection"]) == (431, "application/problem+json", "close")
    assert said(body) == (
        "request_too_large", "The head of a request, its line and headers, may have 10000 bytes at most."
    )  # fmt: skip
    assert peak < 4 * MIB


@pytest.mark.parametrize("beginning", [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx: "])
async def test_wherever_a_head_grows_it_ends_at_its_bound(beginning: bytes) -> None:
    with serving(Echo(), http_head_max_bytes=1000) as server:
        async with connected(server) as wire:
            for _ in range(500):
                await wire.send(beginning)
                beginning = b"y" * 10 if beginning.endswith((b"/", b" ", b"y")) else b"y: y\r\n"
            assert (await wire.answer())[0] == 431


async def test_a_head_may_have_all_that_it_is_allowed_and_not_a_byte_more() -> None:
    app = Echo()
    with serving(app, http_head_max_bytes=1000) as server:
        for length, status in ((1000, 200), (1001, 431)):
            async with connected(server) as wire:
                await wire.send(b"GET /x HTTP/1.1\r\nhost: a\r\nx: ")
                await wire.send(b"a" * (length - 33) + b"\r\n\r\n")
                assert (await wire.answer())[0] == status
    assert app.asked == ["/x"]


async def test_a_large_body_is_no_large_head_and_a_request_behind_it_is_answered() -> None:
    with serving(Echo(), http_head_max_bytes=1000) as server:
        async with connected(server) as wire:
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
            async with connected(server) as wire:
                await wire.send(request[:cut])
                await until(lambda at=cut: [one._unspent_bytes for one in connections] == [at])
                await wire.send(request[cut:])
                assert (await wire.answer())[2] == b"/x " + body
                await wire.send(GET)
                assert (await wire.answer())[2] == b"/x "
            await until(lambda: not connections)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\n", b"\r\n"])
async def test_a_head_that_does_not_come_is_waited_for_only_so_long(sent: bytes) -> None:
    with serving(Echo(), http_head_timeout_seconds=0.2) as server:
        async with connected(server) as wire:
            await wire.send(sent)
            found = await wire.rest()
    if sent.strip():
        assert found.startswith(b"HTTP/1.1 408 ")
        assert said(found.partition(b"\r\n\r\n")[2]) == ("request_timeout", "Its head took longer than 0.2 s.")
    else:  # a browser opens connections ahead of any request: those are closed without a word
        assert found == b""


async def test_a_byte_now_and_then_does_not_put_off_a_heads_end() -> None:
    with serving(Echo(), http_head_timeout_seconds=0.3) as server:
        async with connected(server) as wire:

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
        async with connected(server) as wire, connected(server) as silent:
            await wire.send(GET)
            await wire.answer()
            assert await silent.rest() == b""  # by now the deadline of a head has passed
            await wire.send(GET)
            assert (await wire.answer())[0] == 200


@pytest.mark.slow
async def test_a_client_is_not_held_to_the_time_that_the_process_stood_still() -> None:
    with serving(Echo(), http_head_timeout_seconds=0.5, http_body_timeout_seconds=0.5) as server:
        async with connected(server) as head, connected(server) as body:
            await head.send(b"GET /head HTTP/1.1\r\n")
            await body.send(b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
            stands_still = threading.Event()

            def stand_still() -> None:
                stands_still.set()
                time.sleep(STOOD_STILL_SECONDS + 1)

            server.loop.call_soon_threadsafe(stand_still)
            await asyncio.to_thread(stands_still.wait, SECONDS)
            await head.send(b"host: a\r\n\r\n")
            await body.send(b"abc")
            assert (await head.answer())[2] == b"/head "
            assert (await body.answer())[2] == b"/body abc"


async def test_a_request_for_another_protocol_is_answered_in_this_one() -> None:
    with serving(Echo()) as server:
        async with connected(server) as wire:
            await wire.send(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await wire.rest() == b""


async def test_what_is_no_http_is_told_so() -> None:
    with serving(Echo()) as server:
        async with connected(server) as wire:
            await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            status, _, body = await wire.answer()
    assert (status, said(body)[0]) == (400, "bad_request")
    assert "HTTP/1.1" in said(body)[1]


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
async def test_a_head_that_can_be_read_in_two_ways_is_answered_by_no_application(
    before: bytes, head: bytes, detail: str
) -> None:
    app = Echo()
    with serving(app) as server:
        async with connected(server) as wire:
            if before:
                await wire.send(before)
                assert (await wire.answer())[0] == 401
            await wire.send(head + b"\r\nhello")
            status, headers, body = await wire.answer()
            assert (status, headers["connection"], said(body)) == (400, "close", ("bad_request", detail))
            assert await wire.rest() == b""
    assert "/x" not in app.asked


async def test_such_a_head_is_no_answer_to_the_request_before_it() -> None:
    with serving(Echo()) as server:
        async with connected(server) as wire:
            await wire.send(b"POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
            assert await wire.rest() == b""


async def test_a_request_of_http_1_0_needs_no_host() -> None:
    with serving(Echo()) as server:
        async with connected(server) as wire:
            await wire.send(b"GET /x HTTP/1.0\r\n\r\n")
            assert (await wire.answer())[2] == b"/x "


# Bodies


@pytest.mark.parametrize("drips", [False, True])
async def test_a_body_that_stands_still_ends_its_request(drips: bool) -> None:
    app = Echo()
    with serving(app, http_body_timeout_seconds=0.3) as server:
        async with connected(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\nabc")

            async def drip() -> None:
                while drips:
                    await wire.send(b"d")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            status, headers, body = await wire.answer()
            dripping.cancel()
            assert (status, headers["connection"]) == (408, "close")
            assert said(body) == ("request_timeout", "Its body stood still for 0.3 s.")
            await asyncio.to_thread(app.gone.wait, SECONDS)
    assert app.gone.is_set()


@pytest.mark.slow
async def test_a_slow_body_that_moves_is_taken_to_its_end() -> None:
    with serving(Echo(), http_body_timeout_seconds=0.3) as server:
        async with connected(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 30000\r\n\r\n")
            for _ in range(10):
                await wire.send(b"b" * 3000)
                await asyncio.sleep(0.08)  # the pace of a slow client, in all more than its deadline
            assert len((await wire.answer())[2]) == 30_003


async def test_a_body_that_nobody_reads_is_let_go_by_and_its_answer_is_read() -> None:
    with serving(Echo()) as server:
        async with connected(server) as wire:
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
async def test_who_is_answered_and_does_not_end_its_request_is_let_go(still_sends: bool) -> None:
    with serving(Echo(), http_head_timeout_seconds=0.3) as server:
        async with connected(server) as wire:
            await wire.send(b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % MIB**2)

            async def go_on() -> None:
                while still_sends:
                    await wire.send(b"b" * 1000)
                    await asyncio.sleep(0.02)

            sending = asyncio.create_task(go_on())
            assert (await wire.answer())[0] == 401
            assert await wire.rest() == b""
            sending.cancel()


async def test_what_stands_behind_a_body_is_no_header() -> None:
    app = Echo()
    with serving(app) as server:
        async with connected(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
            await wire.send(b"1\r\na\r\n0\r\nx-forwarded-for: 6.6.6.6\r\n\r\n")
            assert (await wire.answer())[2] == b"/x a"
    assert [name for name, _ in app.headers] == [b"host", b"transfer-encoding"]


async def test_trailers_without_end_are_refused_as_a_head_is() -> None:
    with serving(Echo(), http_head_max_bytes=4000) as server:
        async with connected(server) as wire:
            await wire.send(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
            for _ in range(3000):  # more than a piece, whatever the head came with
                await wire.send(b"a: b\r\n")
            assert (await wire.answer())[0] == 431


# Answers


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"])
async def test_a_client_that_takes_nothing_of_its_answer_is_let_go(last: bytes) -> None:
    before = refused("send_time")
    with serving(Echo(), send_timeout_seconds=0.3) as server:
        async with connected(server) as wire:
            await wire.send(b"GET /large HTTP/1.1\r\nhost: a\r\n" + last + b"\r\n")
            await until(lambda: refused("send_time") > before)
            await until(lambda: not server.server_state.connections)
            assert len(await wire.rest()) < 64 * MIB


@pytest.mark.slow
async def test_a_slow_client_gets_all_of_its_answer() -> None:
    before = refused("send_time")
    with serving(Echo(), send_timeout_seconds=0.3) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=MIB)
        writer.write(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        got = 0
        while got < 64 * MIB:
            got += len(await reader.read(2 * MIB))
            await asyncio.sleep(0.02)  # its pace: all takes longer than the deadline
        writer.close()
    assert refused("send_time") == before


# Connections


async def test_more_connections_than_may_be_are_told_so_and_probes_are_answered() -> None:
    with serving(Echo(), http_connections_max=1) as server:
        async with connected(server) as first, connected(server) as second, connected(server) as third:
            await second.send(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await second.answer())[0] == 200
            await third.send(GET)
            status, headers, body = await third.answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "10", "close")
            assert said(body)[0] == "overloaded"
            assert await third.rest() == b""
            await first.send(GET)  # by now `second` is one too many, whoever asks
            assert (await first.answer())[0] == 503
        await until(lambda: not server.server_state.connections)
        async with connected(server) as wire:
            await wire.send(GET)
            assert (await wire.answer())[0] == 200


async def test_connections_far_beyond_the_limit_are_not_even_read() -> None:
    with serving(Echo(), http_connections_max=1) as server:
        open_ones = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(17)]
        await until(lambda: len(server.server_state.connections) == 17)
        async with connected(server) as wire:
            assert await wire.rest() == b""
        for _, writer in open_ones:
            writer.close()


async def test_no_limit_of_connections_is_none() -> None:
    with serving(Echo(), http_connections_max=0) as server:
        async with connected(server), connected(server) as wire:
            await wire.send(GET)
            assert (await wire.answer())[0] == 200


async def test_a_flood_of_requests_ahead_of_their_answers_ends_the_connection() -> None:
    app = Echo()
    with serving(app, http_pipelined_max=4) as server:
        async with connected(server) as wire:
            await wire.send(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n" + GET * 4)
            await until(lambda: app.asked == ["/endless"])
            assert not app.gone.is_set()
            await wire.send(GET * 5)
            assert b"431" not in await wire.rest()
            await asyncio.to_thread(app.gone.wait, SECONDS)
    assert app.gone.is_set()
    assert app.asked == ["/endless"]


async def test_who_goes_with_requests_still_waiting_is_followed_by_nothing() -> None:
    app = Echo()
    with serving(app) as server:
        async with connected(server) as wire:
            await wire.send(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n" + GET)
            await until(lambda: app.asked == ["/endless"])
        await asyncio.to_thread(app.gone.wait, SECONDS)
    assert app.gone.is_set()


async def test_requests_ahead_of_their_answers_are_answered_in_order() -> None:
    with serving(Echo()) as server:
        async with connected(server) as wire:
            await wire.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(10)))
            assert [(await wire.answer())[2] for _ in range(10)] == [b"/%d " % number for number in range(10)]

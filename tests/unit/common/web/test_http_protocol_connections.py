"""Connections: how many may be open, and requests sent ahead of the answers before them."""

import asyncio

from tests.support.echo_app import GET, Echo, problem_of
from tests.support.polling import until
from tests.support.serving import SECONDS, connect, serving


async def test_connections_beyond_the_limit_are_refused_and_probes_are_answered() -> None:
    with serving(Echo(), http_connections_max=1) as server:
        async with connect(server) as first, connect(server) as second, connect(server) as third:
            await second.send(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await second.answer())[0] == 200
            await third.send(GET)
            status, headers, body = await third.answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "10", "close")
            assert problem_of(body)[0] == "overloaded"
            assert await third.rest() == b""
            await first.send(GET)  # by now `second` is one too many, whoever asks
            assert (await first.answer())[0] == 503
        await until(lambda: not server.server_state.connections)
        async with connect(server) as wire:
            await wire.send(GET)
            assert (await wire.answer())[0] == 200


async def test_connections_far_beyond_the_limit_are_not_even_read() -> None:
    with serving(Echo(), http_connections_max=1) as server:
        open_ones = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(17)]
        await until(lambda: len(server.server_state.connections) == 17)
        async with connect(server) as wire:
            assert await wire.rest() == b""
        for _, writer in open_ones:
            writer.close()


async def test_a_limit_of_zero_connections_means_no_limit() -> None:
    with serving(Echo(), http_connections_max=0) as server:
        async with connect(server), connect(server) as wire:
            await wire.send(GET)
            assert (await wire.answer())[0] == 200


async def test_a_flood_of_requests_ahead_of_their_answers_ends_the_connection() -> None:
    app = Echo()
    with serving(app, http_pipelined_max=4) as server:
        async with connect(server) as wire:
            await wire.send(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n" + GET * 4)
            await until(lambda: app.paths == ["/endless"])
            assert not app.client_left.is_set()
            await wire.send(GET * 5)
            assert b"431" not in await wire.rest()
            await asyncio.to_thread(app.client_left.wait, SECONDS)
    assert app.client_left.is_set()
    assert app.paths == ["/endless"]


async def test_a_client_that_leaves_with_requests_waiting_ends_the_one_that_runs() -> None:
    app = Echo()
    with serving(app) as server:
        async with connect(server) as wire:
            await wire.send(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n" + GET)
            await until(lambda: app.paths == ["/endless"])
        await asyncio.to_thread(app.client_left.wait, SECONDS)
    assert app.client_left.is_set()


async def test_requests_ahead_of_their_answers_are_answered_in_order() -> None:
    with serving(Echo()) as server:
        async with connect(server) as wire:
            await wire.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(10)))
            assert [(await wire.answer())[2] for _ in range(10)] == [b"/%d " % number for number in range(10)]

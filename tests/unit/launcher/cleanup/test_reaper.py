"""The reaper deletes by name: a server that a listing skipped is not gone."""

import json
import time

import pytest
from redis.asyncio import Redis

from services.common.models import Server, ServerRequest, ServerState
from services.common.records.stored_record import RecordUnreadable
from services.common.service.loops import background_tasks
from services.common.service.tasks import sleep_unless_cancelled
from services.launcher.names import suffix
from services.launcher.servers import server_topic
from tests.support.in_process_launcher import NOTHING, REPO, FakeHub, Launcher, StartLauncher
from tests.support.polling import until

ARMED = {"reap_disarmed_seconds": -1.0}


async def _ready(launcher: Launcher, launch_ref: str) -> Server:
    server = await launcher.outcome(await launcher.request_server(launch_ref))
    assert server.state is ServerState.READY
    return server


async def _reap(launcher: Launcher) -> None:
    await launcher.reaper.reap()  # the first one finds Redis empty, and says since when it is known
    await launcher.reaper.reap()


async def test_a_server_that_the_listing_skips_stays(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher(**ARMED) as launcher:
        server = await _ready(launcher, "skipped")
        hub.answer("GET", "/users", (200, "application/json", json.dumps({"items": []}).encode(), {}))
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY
        assert server.user in hub.users
        assert server.server_id in await launcher.seats.holders()


async def test_a_hub_with_small_pages_is_listed_to_its_end(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.page_max = 2
    async with start_launcher(**ARMED) as launcher:
        servers = [await _ready(launcher, f"paged-{number}") for number in range(5)]
        hub.calls.clear()
        await _reap(launcher)
        assert hub.calls == ["GET /hub/api/users"] * 6
        assert len(hub.users) == len(servers)


@pytest.mark.parametrize(("armed", "users"), [(True, 0), (False, 1)])
async def test_a_server_that_ended_is_gone_and_its_user_is_deleted_by_an_armed_reaper(
    start_launcher: StartLauncher, hub: FakeHub, armed: bool, users: int
) -> None:
    async with start_launcher(**(ARMED if armed else {})) as launcher:
        server = await _ready(launcher, "ended")
        hub.users[server.user]["servers"].clear()
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.GONE
        assert await launcher.seats.holders() == {}
        assert len(hub.users) == users


async def test_a_hub_that_is_away_while_it_is_asked_by_name_loses_nobody(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**ARMED) as launcher:
        server = await _ready(launcher, "away")
        hub.users[server.user]["servers"].clear()
        hub.answer("GET", f"/users/{server.user}", (503, "application/json", b"{}", {}))
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.READY


async def test_a_server_that_a_record_calls_gone_and_the_hub_lists_is_left_to_its_user(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**ARMED) as launcher:
        server = await _ready(launcher, "back")
        servers = dict(hub.users[server.user]["servers"])
        hub.users[server.user]["servers"].clear()
        hub.answer("DELETE", f"/users/{server.user}", (503, "application/json", b"{}", {}))
        await _reap(launcher)
        assert (await launcher.servers.read(server.server_id)).state is ServerState.GONE
        hub.scripted_answers.clear()
        hub.users[server.user] = {"name": server.user, "servers": servers}
        await _reap(launcher)
        assert server.user in hub.users
        assert list(await launcher.seats.holders()) == [server.server_id]


async def test_a_server_that_the_hub_lists_as_ours_holds_a_seat_without_a_record(
    start_launcher: StartLauncher, redis: Redis, hub: FakeHub
) -> None:
    classes = {"large": {"cost": 3}}
    repo = REPO.updated(resource_class="large")
    async with start_launcher(seats_total=4, resource_classes=classes, **ARMED) as launcher:
        request = ServerRequest(launch_ref="large", repo=repo, image="image:a")
        server = await launcher.outcome(await launcher.servers.start(request))
        await redis.flushall()
        await _reap(launcher)
        assert server.user in hub.users
        assert await redis.hgetall(launcher.context.keys("{seats}:held")) == {
            b"total": b"3", f"u:{REPO.repo_url}".encode(): b"3", f"n:{REPO.repo_url}".encode(): b"1",
        }  # fmt: skip


async def test_users_and_servers_of_others_are_not_touched(start_launcher: StartLauncher, hub: FakeHub) -> None:
    async with start_launcher(**ARMED) as launcher:
        other_users = {
            "ada": {},
            "some-repo-abcdefgh": {},
            "some-repo-abcdefg2": {"": {"ready": True, "pending": None, "user_options": {"image": "x"}}},
            "some-repo-abcdefg3": {
                "": {"ready": True, "pending": None, "user_options": {"bindery_installation": "another"}}
            },
        }
        hub.users.update({name: {"name": name, "servers": servers} for name, servers in other_users.items()})
        await _reap(launcher)
        assert hub.users.keys() == other_users.keys()
        assert await launcher.seats.holders() == {}


async def test_a_user_that_a_failed_start_left_behind_is_deleted(start_launcher: StartLauncher, hub: FakeHub) -> None:
    hub.answer("POST", "/servers/", (400, "application/json", b"{}", {}))
    hub.answer("DELETE", "", (503, "application/json", b"{}", {}))
    async with start_launcher(**ARMED) as launcher:
        server = await launcher.outcome(await launcher.request_server("failed"))
        assert server.state is ServerState.FAILED
        assert server.user in hub.users
        hub.scripted_answers.clear()
        await _reap(launcher)
        assert hub.users == {}
        assert await launcher.seats.holders() == {}


async def test_a_user_whose_name_was_made_otherwise_before_an_upgrade_is_deleted_all_the_same(
    start_launcher: StartLauncher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.answer("POST", "/servers/", (400, "application/json", b"{}", {}))
    hub.answer("DELETE", "", (503, "application/json", b"{}", {}))
    async with start_launcher(**ARMED) as launcher:
        secret = launcher.settings.installation_secret.get_secret_value()
        former = f"my_org-data.set-{suffix(secret, 'failed')}"
        with monkeypatch.context() as before:
            before.setattr(launcher.servers, "user_for", lambda *_: former)
            await launcher.outcome(await launcher.request_server("failed"))
        assert list(hub.users) == [former]
        hub.scripted_answers.clear()
        await _reap(launcher)
        assert hub.users == {}


async def test_a_failed_start_that_is_asked_for_again_keeps_the_seat_of_what_may_still_run(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    hub.answer("POST", "/servers/", (400, "application/json", b"{}", {}))
    hub.answer("DELETE", "", (503, "application/json", b"{}", {}))
    async with start_launcher(seats_total=1, **ARMED) as launcher:
        server = await launcher.outcome(await launcher.request_server("failed"))
        assert server.state is ServerState.FAILED
        assert (await launcher.request_server("failed")).state is ServerState.FAILED
        assert list(await launcher.seats.holders()) == [server.server_id]
        waiting = await launcher.request_server("waiting")
        assert waiting.queue
        hub.scripted_answers.clear()
        await _reap(launcher)
        assert (await launcher.outcome(waiting)).state is ServerState.READY
        assert (await launcher.request_server("failed")).state is ServerState.FAILED
        assert list(await launcher.seats.holders()) == [waiting.server_id]


async def test_a_seat_without_a_record_is_kept_where_the_hub_has_its_server(
    start_launcher: StartLauncher, redis: Redis, hub: FakeHub
) -> None:
    async with start_launcher(lease_seconds=0.25, **ARMED) as launcher:
        server = await _ready(launcher, "unrecorded")
        await redis.delete(launcher.context.keys.record(server_topic(server.server_id)))
        hub.answer("GET", "/users", (200, "application/json", json.dumps({"items": []}).encode(), {}))
        while (await launcher.seats.holders())[server.server_id].reserved_at > time.time() - 0.25:
            await sleep_unless_cancelled(0.01)  # its owner may still write it anew
        await _reap(launcher)
        assert list(await launcher.seats.holders()) == [server.server_id]
        hub.users.clear()
        await _reap(launcher)
        assert await launcher.seats.holders() == {}


async def test_a_record_that_is_no_hash_costs_its_server_nothing_and_keeps_no_others_from_being_reaped(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**ARMED) as launcher:
        damaged = await _ready(launcher, "damaged")
        ended = await _ready(launcher, "ended")
        redis = launcher.context.redis
        record = launcher.context.keys.record(server_topic(damaged.server_id))
        await redis.delete(record)
        await redis.set(record, "damaged")
        await redis.hset(launcher.context.keys("{seats}:members"), b"\xff", "{}")
        hub.users[ended.user]["servers"].clear()
        await _reap(launcher)
        assert (await launcher.servers.read(ended.server_id)).state is ServerState.GONE
        assert damaged.user in hub.users
        assert damaged.server_id in await launcher.seats.holders()


async def test_a_server_that_cannot_be_read_is_ended_once_the_hub_has_it_no_more_and_keeps_no_others(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**ARMED, lease_seconds=1.0, lease_renew_seconds=0.05) as launcher:
        damaged = await _ready(launcher, "damaged")
        ended = await _ready(launcher, "ended")
        redis = launcher.context.redis
        record = launcher.context.keys.record(server_topic(damaged.server_id))
        await redis.hset(record, "body", "{")
        hub.users[ended.user]["servers"].clear()
        await _reap(launcher)
        assert (await launcher.servers.read(ended.server_id)).state is ServerState.GONE
        assert damaged.user in hub.users
        assert list(await launcher.seats.holders()) == [damaged.server_id]
        with pytest.raises(RecordUnreadable):
            await launcher.servers.read(damaged.server_id)
        with pytest.raises(RecordUnreadable):
            await launcher.servers.stop(damaged.server_id)

        del hub.users[damaged.user]

        async def has_ended() -> bool:
            await launcher.reaper.reap()
            is_final = await redis.hget(record, "final") == b"1"
            return bool(is_final and await launcher.seats.holders() == {})

        await until(has_ended, "an end of the record that can't be read, and of its seat")
        assert await redis.ttl(record) > 0


async def test_a_round_that_takes_too_long_is_cut_short_and_the_next_one_goes_on(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    settings = {**ARMED, "reap_interval_seconds": 0.05, "reap_round_max_seconds": 0.3}
    async with start_launcher(**settings) as launcher:
        stuck = await _ready(launcher, "stuck")
        await _fail(launcher, stuck)
        hub.answer("DELETE", f"/users/{stuck.user}/servers/", NOTHING)
        async with background_tasks(launcher.reaper.run()):
            await until(lambda: hub.calls.count(f"DELETE /hub/api/users/{stuck.user}/servers/") >= 3)
            later = await _ready(launcher, "later")
            await _fail(launcher, later)
            await until(lambda: later.user not in hub.users)
        assert stuck.user in hub.users


async def _fail(launcher: Launcher, server: Server) -> None:
    """Record a server as failed, although it runs."""
    failed = server.updated(state=ServerState.FAILED)
    record = launcher.context.keys.record(server_topic(server.server_id))
    body = failed.model_dump_json(exclude_none=True)
    await launcher.context.redis.hset(record, mapping={"state": "failed", "body": body, "final": "1"})


async def test_the_server_of_a_start_that_nobody_could_read_is_removed(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**ARMED) as launcher:
        server = await _ready(launcher, "unreadable")
        record = launcher.context.keys.record(server_topic(server.server_id))
        await launcher.context.redis.hset(record, mapping={"body": "{", "state": "failed", "final": "1"})
        await _reap(launcher)
        assert (hub.users, await launcher.seats.holders()) == ({}, {})


async def test_a_damaged_age_of_the_installation_disarms_the_reaper_for_a_while(
    start_launcher: StartLauncher, hub: FakeHub
) -> None:
    async with start_launcher(**ARMED) as launcher:
        server = await _ready(launcher, "kept")
        hub.users[server.user]["servers"].clear()
        key = launcher.context.keys("installation")
        await launcher.context.redis.set(key, "yesterday")
        await launcher.reaper.reap()
        assert list(hub.users) == [server.user]
        await launcher.reaper.reap()
        assert float(await launcher.context.redis.get(key) or 0) > 0

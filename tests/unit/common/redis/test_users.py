"""Each service's user of Redis may do what the service does, and nothing beside it."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from deploy.local.redis import redis_url
from deploy.redis.__main__ import main
from deploy.redis.users import USERS, users_file
from services.common.context import open_context
from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.redis.client import connect
from services.common.redis.families import (
    ARQ_FAMILIES,
    BUILDERS,
    CHANNELS,
    FAMILIES,
    LAUNCHER,
    MEMBERS,
    RESOLVER,
    RedisUser,
)
from services.common.redis.keys import Keys, Kind, Topic
from services.common.redis.rights import MissingRight, refuse_unfit
from services.common.redis.scripts import run_together
from services.common.redis.users import COMMANDS
from services.common.service.health import Health
from tests.support.logs import line_of
from tests.support.metrics import sample
from tests.support.paths import CHECKOUT
from tests.support.valkey import Valkey, service_settings

SERVICES = CHECKOUT / "services"
KEYS = Keys("bindery:default")

DANGEROUS = (
    "acl list", "acl whoami", "bgrewriteaof", "bgsave", "client kill id 1", "client list", "config get *", "copy a b",
    "config set dir /tmp", "debug sleep 0", "dump a", "eval return 0", "failover", "flushall", "flushdb",
    "function load x", "keys *", "migrate h 1 k 0 1", "module load /tmp/x.so", "monitor", "move a 1", "object freq a",
    "randomkey", "rename a b", "replicaof h 1", "restore a 0 x", "save", "scan 0", "script flush", "script kill",
    "shutdown", "slowlog get", "sort a", "swapdb 0 1",
)  # fmt: skip


@pytest.fixture
async def admin(redis: Redis) -> AsyncIterator[Redis]:
    """The admin user, which may change the rights of the others for the length of a test."""
    await redis.acl_log_reset()
    yield redis
    await redis.acl_load()


def client_of(valkey: Valkey, user: str) -> Redis:
    return Redis.from_url(valkey.url_of(user))


# What the code does


def literal(pattern: str) -> str:
    """A key of a family."""
    return pattern.replace("*", "x")


def test_every_family_has_who_writes_it_and_no_two_overlap() -> None:
    assert [family.pattern for family in (*FAMILIES, *ARQ_FAMILIES) if not family.access.writes] == []
    assert [channel.pattern for channel in CHANNELS if not channel.users] == []
    overlaps = [
        (family.pattern, other.pattern)
        for family in FAMILIES
        for other in FAMILIES
        if family is not other and fnmatchcase(literal(other.pattern), family.pattern)
    ]
    assert overlaps == []


def test_every_key_that_the_code_names_is_of_a_family() -> None:
    named = {
        key
        for path in SERVICES.rglob("*.py")
        for key in re.findall(r"""keys\(f?"([^"]+)"\)""", path.read_text())
        if key not in {"{queue}:", "{seats}:"}  # those go on with a name
    }
    named |= {f"{{queue}}:{name}" for name in ("waiting", "running", "repos", "version", "limits", "abandoned")}
    assert len(named) > 12
    patterns = [family.pattern for family in FAMILIES]
    assert [
        key for key in named if not any(fnmatchcase(re.sub(r"\{[^}]*\(.*\)[^}]*\}", "x", key), p) for p in patterns)
    ] == []


@pytest.mark.parametrize(
    ("folder", "services"),
    [("common", MEMBERS), ("builder", BUILDERS), ("launcher", LAUNCHER), ("resolver", RESOLVER)],
    ids=["common", "builder", "launcher", "resolver"],
)
def test_every_command_of_a_script_is_granted_to_who_runs_it(folder: str, services: frozenset[RedisUser]) -> None:
    scripts = list((SERVICES / folder).rglob("*.lua"))
    commands = {name.lower() for path in scripts for name in re.findall(r"redis\.p?call\('(\w+)'", path.read_text())}
    assert commands
    assert {service: commands - COMMANDS[service] for service in services if commands - COMMANDS[service]} == {}


# What Redis does


@pytest.mark.parametrize("service", RedisUser)
async def test_no_service_may_use_a_dangerous_command(service: RedisUser, admin: Redis) -> None:
    async def may(command: str) -> bool:
        answer = await admin.execute_command("ACL", "DRYRUN", f"bindery-{service}", *command.split())
        return bool(answer == b"OK")

    assert [command for command in DANGEROUS if await may(command)] == []
    assert await may("ping")


async def test_a_gateway_that_was_taken_over_writes_no_job(admin: Redis, valkey: Valkey) -> None:
    job = f"arq:job:{KEYS.prefix}:a-1.1"
    way_round = "return redis.call(unpack(ARGV))"
    async with client_of(valkey, "gateway") as gateway:
        sha = await gateway.script_load(way_round)
        attempts: list[tuple[Any, ...]] = [
            ("ZADD", KEYS("{queue}:jobs"), 1, "a-1.1"),
            ("ZADD", KEYS("{queue}:waiting"), 1, "a-1"),
            ("HSET", KEYS("{queue}:running"), "a-1", "https://example.org"),
            ("HSET", KEYS("slots"), "builder-x", 100),
            ("SET", job, "a"),
            ("GET", job),
            ("SET", f"arq:in-progress:{KEYS.prefix}:a-1.1", "1"),
            ("SADD", KEYS.orphans("builder"), "b:a-1"),
            ("SET", KEYS.alive("builder-x"), "1"),
            ("HSET", KEYS.record(Topic(Kind.BUILD, "a-1")), "epoch", "1"),
            ("XADD", KEYS.events(Topic(Kind.BUILD, "a-1")), "*", "d", "a"),
            ("SET", KEYS("fact:repo:a"), "1"),
            ("SET", KEYS("policy:resolver"), "1"),
            ("HSET", KEYS("{seats}:members"), "a", "1"),
            ("SET", KEYS("seats:counted"), "yes"),
            ("PUBLISH", KEYS.wake("builder"), "cancel a-1"),
            ("SET", "another:installation:a", "1"),
            ("GET", "credentials"),
            ("EVALSHA", sha, 0, "SET", job, "a"),
            ("EVALSHA", sha, 0, "ZADD", KEYS("{queue}:jobs"), 1, "a-1.1"),
            ("EVALSHA", sha, 1, KEYS("{queue}:jobs"), "ZADD", KEYS("{queue}:jobs"), 1),
            ("EVALSHA", sha, 0, "FLUSHALL"),
            ("EVAL", way_round, 0, "SET", job, "a"),
        ]
        for attempt in attempts:
            with pytest.raises(ResponseError, match=r"has no permissions|No permissions"):
                await gateway.execute_command(*attempt)
        assert await gateway.set(KEYS.alive("gateway-x"), "1")
    assert await admin.keys("*") == [KEYS.alive("gateway-x").encode()]


async def test_a_gateway_runs_the_scripts_that_read_what_others_write(admin: Redis, valkey: Valkey) -> None:
    await admin.zadd(KEYS("{queue}:waiting"), {"a-1": 1})
    await admin.hset(KEYS.record(Topic(Kind.BUILD, "a-1")), "repo_url", "https://example.org/a")
    spec = Spec(provider="git", spec="a/HEAD")
    async with open_context(service_settings(valkey, redis_url=valkey.url_of("gateway"))) as context:
        assert (await context.queue_positions.of("a-1"))["a-1"].position == 1
        (answer,) = await run_together(context.redis, [context.launch_cache.lookup_call(spec)])
        assert context.launch_cache.parse_lookup(answer).repo is None
    assert await admin.acl_log() == []


async def test_the_resolver_reads_nothing_and_writes_what_links_mean(admin: Redis, valkey: Valkey) -> None:
    for kind in Kind:
        await admin.hset(KEYS.record(Topic(kind, "a")), "body", "a secret")
    async with client_of(valkey, "resolver") as resolver:
        for attempt in (
            ("HGETALL", KEYS.record(Topic(Kind.LAUNCH, "a"))),
            ("HGETALL", KEYS.record(Topic(Kind.SERVER, "a"))),
            ("XRANGE", KEYS.events(Topic(Kind.SERVER, "a")), "-", "+"),
            ("GET", KEYS("fact:repo:a")),
            ("SET", KEYS("fact:repo:a"), "1", "GET"),
            ("SET", KEYS("fact:image:a"), "1"),
            ("SUBSCRIBE", KEYS.news(Topic(Kind.LAUNCH, "a"))),
            ("EVALSHA", "0" * 40, "1", KEYS("fact:built:a")),
            ("PUBLISH", KEYS.wake("gateway"), "cancel a"),
        ):
            with pytest.raises(NoPermissionError):
                await resolver.execute_command(*attempt)
        assert await resolver.set(KEYS("fact:repo:a"), "1")
        assert await resolver.set(KEYS("policy:resolver"), "1")
        assert await resolver.lpush(KEYS("policy:audit"), "1") == 1
        assert await resolver.set(KEYS("flight:a"), "?", nx=True, get=True, px=5000) is None
        assert await resolver.set(KEYS("flight:a"), "?", nx=True, get=True, px=5000) == b"?"
    for service in (RedisUser.GATEWAY, RedisUser.BUILDER, RedisUser.LAUNCHER):
        async with client_of(valkey, service) as other:
            with pytest.raises(NoPermissionError):
                await other.set(KEYS("flight:a"), "another answer")
            with pytest.raises(NoPermissionError):
                await other.set(KEYS("policy:live"), "another policy")


@pytest.mark.parametrize("member", sorted(MEMBERS))
async def test_every_member_may_prove_that_its_subscription_lives(
    member: RedisUser, admin: Redis, valkey: Valkey
) -> None:
    settings = service_settings(valkey, redis_url=valkey.url_of(member), heartbeat_seconds=0.1)
    before = sample("bindery_subscription_reconnects_total")
    async with admin.pubsub() as heartbeats, open_context(settings) as context:
        await heartbeats.psubscribe(context.keys.heartbeats("*"))
        async with asyncio.timeout(60):
            heard = 0
            while heard < 4:
                message = await heartbeats.get_message(timeout=1)
                heard += message is not None and message["type"] == "pmessage"
    assert sample("bindery_subscription_reconnects_total") == before


@pytest.mark.parametrize("service", [RedisUser.BUILDER, RedisUser.WORKER, RedisUser.LAUNCHER])
async def test_a_member_writes_no_launches_and_nothing_of_another_service(
    service: RedisUser, admin: Redis, valkey: Valkey
) -> None:
    other_service = {RedisUser.LAUNCHER: ("b", "builder")}.get(service, ("s", "launcher"))
    async with client_of(valkey, service) as client:
        for attempt in (
            ("HSET", KEYS.record(Topic(Kind.LAUNCH, "a")), "state", "ready"),
            ("XADD", KEYS.events(Topic(Kind.LAUNCH, "a")), "*", "d", "a"),
            ("HSET", KEYS.record(Topic(Kind(other_service[0]), "a")), "state", "ready"),
            ("HGETALL", KEYS.record(Topic(Kind(other_service[0]), "a"))),
            ("SADD", KEYS.owned(f"{other_service[1]}-x"), "a"),
            ("SADD", KEYS.orphans("gateway"), "a"),
            ("SET", KEYS("fact:repo:a"), "1"),
            ("GET", KEYS("idempotency:a")),
        ):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*attempt)


async def test_the_user_of_the_health_check_may_do_nothing_else(admin: Redis, valkey: Valkey) -> None:
    async with client_of(valkey, "health") as health:
        assert await health.ping()
        for attempt in (("GET", KEYS("a")), ("INFO",), ("SUBSCRIBE", "a")):
            with pytest.raises(NoPermissionError):
                await health.execute_command(*attempt)


# What a service says


async def test_a_right_that_is_lacking_is_told_with_the_user_and_the_file(
    admin: Redis, valkey: Valkey, logs: io.StringIO
) -> None:
    await admin.execute_command("ACL", "SETUSER", "bindery-launcher", "-hgetall")
    health = Health()
    async with open_context(service_settings(valkey, redis_url=valkey.url_of("launcher")), health) as context:
        await health.check_now()
        assert health.report()[0]
        with pytest.raises(MissingRight, match=r"user 'bindery-launcher'.*hgetall.*deploy/redis/users\.acl"):
            await context.records.read(Topic(Kind.SERVER, "a"))
        await health.check_now()
        is_well, (row,) = health.report()
        assert not is_well
        assert row["message"] == "Redis does not let this service do all that it has to; its log says more."
        _, (row,) = health.report(in_detail=True)
        assert "'hgetall'" in str(row["message"])
        assert "docs/redis.md" in str(row["message"])
    assert line_of(logs, "redis_refused")["user"] == "bindery-launcher"


async def test_a_script_that_lacks_a_right_tells_the_same(admin: Redis, valkey: Valkey) -> None:
    await admin.execute_command("ACL", "SETUSER", "bindery-launcher", "-hset")
    await admin.hset(KEYS.record(Topic(Kind.SERVER, "a")), "v", "1")
    async with open_context(service_settings(valkey, redis_url=valkey.url_of("launcher"))) as context:
        with pytest.raises(MissingRight, match=r"user 'bindery-launcher'.*hset"):
            await context.records.set_field(Topic(Kind.SERVER, "a"), "cancel", "1")
        failure = await context.redis_answers()
        assert failure
        assert "hset" in failure.detail


async def test_an_operator_with_one_shared_password_is_told_what_to_do(
    admin: Redis, valkey: Valkey, logs: io.StringIO
) -> None:
    await admin.execute_command("ACL", "SETUSER", "default", "on", ">shared", "~*", "&*", "+@all")
    shared = redis_url(valkey.socket, "admin", "shared").replace("bindery-admin:", ":")
    async with open_context(service_settings(valkey, redis_url=shared)) as context:
        assert await context.redis_answers() is None
        assert logs.getvalue().count("redis_user_shared") == 1
        assert "deploy/redis/users.acl" in line_of(logs, "redis_user_shared")["advice"]
    async with open_context(service_settings(valkey, redis_url=valkey.url_of("gateway"))):
        assert logs.getvalue().count("redis_user_shared") == 1


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ({"redis_version": "6.2.14", "cluster_enabled": 0}, "Redis 6.2.14 is too old: 7.0 or Valkey"),
        ({"redis_version": "7.2.4", "cluster_enabled": 1}, "Redis Cluster is not supported"),
    ],
)
async def test_a_redis_that_will_not_do_is_refused(info: dict[str, object], sentence: str) -> None:
    async def answer() -> dict[str, object]:
        return info

    redis: Any = SimpleNamespace(info=answer)
    with pytest.raises(BinderyError, match=re.escape(sentence)):
        await refuse_unfit(redis)


async def test_a_redis_that_may_lose_records_is_warned_of(valkey: Valkey, redis: Redis, logs: io.StringIO) -> None:
    async with open_context(service_settings(valkey)):
        assert "redis_may_lose_data" not in logs.getvalue()
    try:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await redis.config_set("appendonly", "no")
        await refuse_unfit(redis)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("appendonly", "yes")
    assert line_of(logs, "redis_may_lose_data")["settings"] == ["maxmemory-policy allkeys-lru", "appendonly no"]


def test_sentinel_is_given_the_user_and_a_password_with_any_letters(valkey: Valkey) -> None:
    url = "redis+sentinel://bindery-gateway:p%40ss@127.0.0.1:1,127.0.0.1:2/main/0"
    options = connect(service_settings(valkey, redis_url=url)).connection_pool.connection_kwargs
    assert (options["username"], options["password"]) == ("bindery-gateway", "p@ss")


# The user `default`


async def test_what_services_write_may_be_run_again_from_the_append_only_file(admin: Redis) -> None:
    """Redis 7.0, and Valkey before 9, check the commands of transactions and scripts at their start, by `default`."""
    written = [
        *("set k v", "psetex k 1 v", "incr k", "incrby k 1", "setex k 1 v", "del k", "expire k 1", "pexpire k 1"),
        *("pexpireat k 1", "hset k f v", "hdel k f", "hincrby k f 1", "hsetnx k f v", "sadd k a", "srem k a"),
        *("xadd k * f v", "xdel k 1-1", "xtrim k maxlen 1", "zadd k 1 a", "zrem k a", "zincrby k 1 a", "unlink k"),
        "select 0",
    ]
    answers = {text: await admin.execute_command("ACL", "DRYRUN", "default", *text.split()) for text in written}
    assert {text: answer for text, answer in answers.items() if answer != b"OK"} == {}
    for text in (
        "get k",
        "keys *",
        "acl list",
        "config get *",
        "publish c m",
        "flushall",
        "migrate h 1 k 0 1",
        "sort a",
    ):
        assert await admin.execute_command("ACL", "DRYRUN", "default", *text.split()) != b"OK", text


@pytest.mark.parametrize("login", [(), ("default", ""), ("default", "nopass"), ("",)])
async def test_nobody_comes_in_as_the_user_that_has_these_rights(valkey: Valkey, login: tuple[str, ...]) -> None:
    options: dict[str, Any] = {"lib_name": None, "lib_version": None}  # else it says more before it is asked
    async with Redis(unix_socket_path=str(valkey.socket), single_connection_client=True, **options) as stranger:
        if login:
            with pytest.raises(AuthenticationError):
                await stranger.execute_command("AUTH", *login)
        with pytest.raises(AuthenticationError, match="Authentication required"):
            await stranger.execute_command("SET", "k", "v")


# The file of users


def test_the_users_file_has_no_password_and_nothing_left_to_fill_in() -> None:
    content = users_file("bindery:lab", {user: f"password of {user}" for user in USERS}, "lab")
    assert "password" not in content
    assert "$" not in content
    assert [line.split()[1] for line in content.splitlines()] == ["default", *(f"lab-{user}" for user in USERS)]
    assert set(USERS) == {*RedisUser, "health", "admin"}


def test_a_second_run_keeps_the_passwords(tmp_path: Path) -> None:
    url = "redis://{user}:{password}@redis.example.org:6379/0"
    arguments = ["--prefix", "bindery:lab", "--url", url, "--folder", str(tmp_path / "users")]
    assert main(arguments) == 0
    files = {path.name: path.read_text() for path in (tmp_path / "users").iterdir()}
    assert files["gateway.env"].startswith("BINDERY_REDIS_URL=redis://bindery-gateway:")
    assert len({text for name, text in files.items() if name != "users.acl"}) == len(USERS)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "users").iterdir()} == {0o600}
    assert main(arguments) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "users").iterdir()} == files


@pytest.mark.parametrize(
    ("prefix", "url", "sentence"),
    [
        ("bindery:*", "redis://{user}:{password}@h", "'bindery:*' can't be the prefix of Redis users"),
        ("bindery:a ~b", "redis://{user}:{password}@h", "can't be the prefix of Redis users"),
        ("bindery:lab", "redis://:secret@h", "--url needs {user} and {password} in it"),
    ],
)
def test_input_that_makes_no_users_is_refused(
    prefix: str, url: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--prefix", prefix, "--url", url, "--folder", str(tmp_path)])
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

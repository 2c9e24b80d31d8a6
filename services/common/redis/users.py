"""The users of Redis: what each service may do there, and nothing else. `docs.generate` writes the file of them.

It relies on what Redis 7 and Valkey have: separate rights to read and to write, and scripts that only read.
"""

from collections.abc import Iterator

from services.common.redis.families import ARQ_FAMILIES, CHANNELS, FAMILIES, MEMBERS, RedisUser

USERS_FILE = "deploy/redis/users.acl"
"""The file as operators get it; they replace `${NAME}`, `${PREFIX}` and `${<USER>_SHA256}`."""

NOBODY_LINE = (
    "user default off resetpass sanitize-payload ~* resetchannels -@all +@write -@dangerous -@scripting +select"
)
"""The user `default`, as whom nobody can come in: it is off, and has no password.

It has rights to write all the same. At its start Redis runs what is in the append-only file again, and checks the
commands of each transaction, and those of scripts, by the rights of this user: without them they are lost. Redis 7.0
and Valkey 8.1 do so; Valkey 9.1 does not. `ACL LOAD` leaves connections open that came in as this user before: so it
has no right that nothing of ours writes, such as FLUSHALL.
"""

CONNECTION = frozenset({"ping", "select"})
"""Commands that every user may run. AUTH, HELLO and QUIT need no right."""

MEMBERS_COMMANDS = frozenset(
    {
        *("info", "multi", "exec", "discard", "watch", "unwatch", "script|load", "evalsha", "evalsha_ro"),
        *("publish", "subscribe", "psubscribe", "unsubscribe", "punsubscribe"),
        *("del", "exists", "expire", "pexpire", "get", "getrange", "mget", "set", "psetex", "incr"),
        *("hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hset", "hsetnx", "hvals"),
        *("sadd", "scard", "sismember", "smembers", "srandmember", "srem"),
        *("xadd", "xdel", "xrange", "xrevrange"),
        *("zadd", "zcard", "zrange", "zrangebyscore", "zrem", "zscore"),
    }
)
"""Commands that members of services use. None reads or changes keys that it does not name, or administers Redis."""

COMMANDS: dict[RedisUser, frozenset[str]] = {
    **dict.fromkeys(MEMBERS, MEMBERS_COMMANDS),
    RedisUser.WORKER: MEMBERS_COMMANDS | {"dbsize", "incrby", "setex", "zincrby"},  # arq's
    RedisUser.RESOLVER: frozenset(
        {"get", "mget", "set", "lpush", "lrange", "ltrim", "evalsha", "script|load", "publish", "subscribe"}
    ),
}


def rules(user: RedisUser, prefix: str) -> str:
    """Return a user's rights as Redis's ACL rules. `prefix` is the beginning of every key of the installation."""
    commands = sorted(CONNECTION | COMMANDS[user])
    channels = [f"&{prefix}:{channel.pattern}" for channel in CHANNELS if user in channel.users]
    keys = [
        f"~{pattern}" if rights == "RW" else f"%{rights}~{pattern}"
        for family in (*FAMILIES, *ARQ_FAMILIES)
        for rights, pattern in family.granted(prefix, user)
    ]
    return " ".join(["resetkeys", *keys, "resetchannels", *channels, "-@all", *(f"+{command}" for command in commands)])


def users_template() -> str:
    """Return the file of users for any installation: the services, the health check, and the operator."""
    return "".join(f"{line}\n" for line in _acl_lines("${PREFIX}"))


def _acl_lines(prefix: str) -> Iterator[str]:
    yield NOBODY_LINE
    for user in RedisUser:
        yield f"user ${{NAME}}-{user} on #${{{user.upper()}_SHA256}} {rules(user, prefix)}"
    yield "user ${NAME}-health on #${HEALTH_SHA256} resetkeys resetchannels -@all +ping"
    yield "user ${NAME}-admin on #${ADMIN_SHA256} ~* &* +@all"

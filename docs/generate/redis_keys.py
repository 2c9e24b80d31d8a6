"""docs/redis-keys.md: every family of keys in Redis, and every channel."""

import re
from collections.abc import Iterable

from docs.generate.markdown import NOTE, table
from services.common.redis.families import ARQ_FAMILIES, CHANNELS, FAMILIES, Family, RedisUser

TITLES = {
    "record": "Records: losing one loses something that a user could ask for",
    "work": "Work in progress: gone when nothing is under way",
    "cache": "Caches: losing one costs time",
}
"""The headings of the page, by the nature of the families below them."""

HEAD = ("Keys", "Contents", "Expiry", "Written by", "Read by")


def redis_keys_page() -> str:
    """Return the page."""
    parts = [
        f"# Keys in Redis\n\n{NOTE}\n",
        "Every key begins with `<BINDERY_REDIS_PREFIX>:<BINDERY_INSTALLATION_ID>:`. The tables show the rest, with `*` "
        "for what differs between keys: `b:` is a build, `l:` a launch, `s:` a server, `i:` an image. Each service has "
        "[a user of its own](redis.md), who may write and read the keys that the last two columns say, and no others. "
        "Of the keys about processes (`alive:*` to `sweep:*`), a user may use those of its own service.\n",
    ]
    for nature, title in TITLES.items():
        rows = [_row(family) for family in FAMILIES if family.nature == nature]
        parts.append(f"## {title}\n\n{table(HEAD, rows)}")

    parts.append(
        "## Keys of arq\n\narq names these itself: `{prefix}` is the beginning of all other keys.\n\n"
        + table(HEAD, map(_row, ARQ_FAMILIES))
    )

    channels = [(f"`{channel.pattern}`", channel.meaning, _names(channel.users)) for channel in CHANNELS]
    parts.append(
        "## Channels\n\nChannels begin as keys do. In Redis, a user who may listen on a channel may also publish there."
        "\n\n" + table(("Channels", "Messages", "Published and read by"), channels)
    )
    return "\n".join(parts)


def _row(family: Family) -> tuple[str, ...]:
    writers = _names(family.access.writes)
    readers = _names(family.access.reads)
    return f"`{family.pattern}`", family.meaning, _with_variables(family.expiry), writers, readers


def _names(users: Iterable[RedisUser]) -> str:
    named = set(users)
    return ", ".join(user for user in RedisUser if user in named) or "nobody"


def _with_variables(text: str) -> str:
    """Return the text with each name of a setting replaced by its variable."""
    return re.sub(r"\b\w+_(?:seconds|bytes)\b", lambda name: f"`BINDERY_{name[0].upper()}`", text)

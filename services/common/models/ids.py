"""Creating launch ids, and their public form."""

import hashlib
import secrets
import time

from services.common.models import LaunchId


def new_launch_id() -> LaunchId:
    """Return a time-ordered, unguessable id: 11 hex digits of milliseconds, then 128 random bits."""
    milliseconds = int(time.time() * 1000)  # noqa: TID251 - nothing compares it
    return LaunchId(f"{milliseconds:011x}{secrets.token_hex(16)}")


def launch_ref(launch_id: str) -> str:
    """Return the name of a launch for places where its secret id must not appear: labels, user names, log lines."""
    return hashlib.sha256(launch_id.encode()).hexdigest()[:20]

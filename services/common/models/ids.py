"""Making identifiers."""

import hashlib
import secrets
import time

from services.common.models import LaunchId


def new_launch_id() -> LaunchId:
    """Time-ordered and unguessable: 11 hex digits of milliseconds, then 128 random bits."""
    return LaunchId(f"{int(time.time() * 1000):011x}{secrets.token_hex(16)}")


def launch_ref(launch_id: str) -> str:
    """What a launch is called where its id must not stand: labels, user options, user names, log lines."""
    return hashlib.sha256(launch_id.encode()).hexdigest()[:20]

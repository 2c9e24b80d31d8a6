"""Python's sleep, for processes under faketime: Debian's 0.9.10 breaks the system call behind it.

Without a faked monotonic clock, its `clock_nanosleep` answers EINVAL.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep

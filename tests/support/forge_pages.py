"""What a forge of the tests gets and answers."""

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the forge got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(kw_only=True)
class Fault:
    """What goes wrong: an answer with `status`, none before `hold` is set or at all, or (API) a limit reached."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    hold: threading.Event | None = None
    rate_limited: bool = False
    hangs_up: bool = False

    @classmethod
    def holding(cls) -> "Fault":
        """No answer until `release`."""
        return cls(hold=threading.Event())

    @property
    def timeout_seconds(self) -> float:
        """How long to wait for the answer: briefly for one that does not come, else as long as a busy machine needs."""
        return 0.5 if self.hold else 60.0

    def release(self) -> None:
        if self.hold:
            self.hold.set()


@dataclass(frozen=True)
class Page:
    """A fixed answer; the body may be an endless iterator."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""


def json_page(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Page:
    return Page(status, {**headers, "Content-Type": "application/json; charset=utf-8"}, json.dumps(body).encode())

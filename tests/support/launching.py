"""Launches at a running Bindery, wherever it runs: a client of its gateways, and of a launch's stream."""

import contextlib
import json
import socket
import threading
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from tests.support.polling import eventually

START_TOKENS: dict[int, Path] = {}
"""The file with the start token of each stack that a test has started, by the ports of its gateways."""


def start_token_at(url: str) -> str:
    """Return the start token of the stack whose gateway is at `url`; empty without one."""
    token = START_TOKENS.get(urlsplit(url).port or 0)
    return token.read_text() if token and token.exists() else ""


def bearer(url: str) -> dict[str, str]:
    """Return the header that lets a program in at `url`."""
    token = start_token_at(url)
    return {"Authorization": f"Bearer {token}"} if token else {}


def show_start_token(request: httpx.Request) -> httpx.Request:
    """Add the start token to a request, unless it has credentials of its own."""
    for name, value in bearer(str(request.url)).items():
        request.headers.setdefault(name, value)
    return request


@dataclass
class Following:
    """A launch's stream, read in a thread; it may be broken off and resumed."""

    url: str
    _: KW_ONLY
    headers: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    last_id: str = ""
    status: int = 0
    reply_headers: dict[str, str] = field(default_factory=dict)
    is_broken: bool = False
    _thread: threading.Thread | None = None
    _reply: httpx.Response | None = None

    def start(self) -> Self:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        headers = {"Accept": "text/event-stream", **bearer(self.url), **self.headers}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        self.is_broken = False
        try:
            with (
                httpx.Client(timeout=httpx.Timeout(None, connect=10), trust_env=False) as client,
                client.stream("GET", self.url, headers=headers) as reply,
            ):
                self._reply = reply
                self.status = reply.status_code
                self.reply_headers = dict(reply.headers)
                for line in reply.iter_lines():
                    if line.startswith("id:"):
                        self.last_id = line[3:].strip()
                    elif line.startswith("data:"):
                        self.events.append(json.loads(line[5:]))
                        if self.terminal:
                            return
        except (httpx.HTTPError, OSError, RuntimeError):
            self.is_broken = True

    def close(self) -> None:
        """Close the connection, as a browser does that goes elsewhere."""
        if self._reply:  # a close alone would not wake the thread that reads
            with contextlib.suppress(OSError):
                self._reply.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        if self._thread:
            self._thread.join(10)
            assert not self._thread.is_alive(), "the stream is still being read"

    def resume(self, url: str | None = None) -> Self:
        """Connect again where the stream broke off, perhaps at another gateway."""
        self.url = url or self.url
        return self.start()

    @property
    def is_being_read(self) -> bool:
        """Whether the stream is open: not broken off, nor ended by the gateway."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def launch_id(self) -> str:
        return self.last_id.partition("~")[0]

    @property
    def phases(self) -> list[str]:
        """The phases in order, each named once in a row."""
        all_phases = [event["phase"] for event in self.events]
        return [phase for at, phase in enumerate(all_phases) if at == 0 or all_phases[at - 1] != phase]

    @property
    def messages(self) -> list[str]:
        return [event.get("message", "") for event in self.events]

    @property
    def text(self) -> str:
        return "".join(self.messages)

    @property
    def terminal(self) -> dict[str, Any] | None:
        return next((e for e in self.events if e["phase"] in {"ready", "failed", "cancelled"}), None)

    def until(self, phase: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for an event of a phase."""

        def of_phase() -> dict[str, Any] | None:
            return next((event for event in list(self.events) if event["phase"] == phase), None)

        event: dict[str, Any] = eventually(
            lambda: of_phase() or self.terminal, f"{phase}; so far: {self.events[-3:]}", seconds
        )
        assert event["phase"] == phase, f"waited for {phase}, got {event}; before: {self.text[-2000:]}"
        return event

    def until_message(self, text: str, seconds: float = 60.0) -> None:
        """Wait until some message contains `text`."""
        eventually(lambda: text in self.text, f"a message with {text!r}; so far: {self.text[-500:]}", seconds)

    def outcome(self, seconds: float = 120.0) -> dict[str, Any]:
        """Wait for the terminal event."""
        last_event: dict[str, Any] = eventually(
            lambda: self.terminal, f"an outcome; so far: {self.events[-3:]}", seconds
        )
        return last_event


class Launching(ABC):
    """A Bindery that answers at `url`, and what tests launch there."""

    def __init__(self) -> None:
        self.client = httpx.Client(timeout=60, trust_env=False, auth=show_start_token)

    @property
    @abstractmethod
    def url(self) -> str:
        """The address of the gateway, without a slash at its end."""

    @abstractmethod
    def hub_users(self) -> dict[str, list[str]]:
        """Return every user on the hub, with the names of their servers."""

    def gateway_url(self, number: int) -> str:
        """Return the address of one of several gateways."""
        assert number == 0, "it has one gateway"
        return self.url

    def facade(self, repo_url: str, ref: str = "HEAD", *, gateway: int = 0, **headers: str) -> Following:
        """Launch by BinderHub's address, provider git."""
        address = f"{self.gateway_url(gateway)}/build/git/{quote(repo_url, safe='')}/{ref}"
        return Following(address, headers={name.replace("_", "-"): value for name, value in headers.items()}).start()

    def build(self, path: str, **headers: str) -> Following:
        """Follow any address below /build/."""
        return Following(f"{self.url}/build/{path}", headers=headers).start()

    def create(self, spec: str, provider: str = "git", **body: object) -> dict[str, Any]:
        """Create a launch by the v1 API."""
        reply = self.client.post(f"{self.url}/api/v1/launches", json={"provider": provider, "spec": spec, **body})
        assert reply.status_code == 202, reply.text
        view: dict[str, Any] = reply.json()
        return view

    def follow(self, launch_id: str, gateway: int = 0) -> Following:
        """Follow a launch by the v1 API."""
        return Following(f"{self.gateway_url(gateway)}/api/v1/launches/{launch_id}/events").start()

    def launch(self, launch_id: str) -> dict[str, Any]:
        view: dict[str, Any] = self.client.get(f"{self.url}/api/v1/launches/{launch_id}").json()
        return view

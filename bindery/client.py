"""The Python client of a Bindery gateway: start a launch, follow it to its end, cancel it.

with Client("http://127.0.0.1:8585") as bindery:
    launch = bindery.launch("git", "https%3A%2F%2Fexample.org%2Fnotebooks.git/HEAD")
    for event in bindery.events(launch.launch_id):
        print(event.message, end="")
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from bindery.start_token import is_loopback, start_token

FINAL = frozenset({"ready", "failed", "cancelled"})


class GatewayError(Exception):
    """The gateway did not do what was asked. `code` is from the API's closed list; empty when it never answered."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Launch:
    """A launch as the gateway answered it."""

    launch_id: str
    state: str
    address: str
    """The page that shows it."""


@dataclass(frozen=True)
class Event:
    """One thing that happened to a launch; `ready`, `failed` and `cancelled` are phases of the last one only."""

    phase: str
    message: str
    url: str = ""
    token: str = ""
    address: str = ""
    """What a browser opens: the running server at the path asked for, with the token. Whoever reads it can use it."""
    problem: str = ""
    """Why it failed, in a sentence or two, when it did."""
    code: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self.phase in FINAL


@dataclass(frozen=True)
class Worker:
    """A living builder worker: how many builds it can supervise, and does. The name is for the operator."""

    name: str
    slots: int
    running: int


@dataclass(frozen=True)
class Queue:
    """How the queue of builds stands: how many wait, since when the first, how many run, and how many may."""

    depth: int
    oldest_waiting_seconds: float
    running: int
    capacity: int
    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class _Message:
    """One message of a `text/event-stream`."""

    position: str
    data: str
    retry_seconds: float | None


class Client:
    """Speaks the v1 API of one gateway. Close it, or use it in a `with`."""

    def __init__(
        self,
        gateway: str = "http://127.0.0.1:8585",
        *,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        silence_seconds: float = 90.0,
        patience_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`token`: the gateway's start token. Without one it is looked up where the gateway is on this machine: in
        `BINDERY_START_TOKEN`, then in the data folder of the `make up` that runs there.

        `silence_seconds`: an event stream silent for so long (keepalives count) is taken for dead.

        `patience_seconds`: for so long a broken stream is opened again without anything new coming.
        """
        self.gateway = gateway.rstrip("/")
        self._timeout_seconds, self._silence_seconds = timeout_seconds, silence_seconds
        self._patience_seconds = patience_seconds
        token = start_token(self.gateway) if token is None else token
        self._http = httpx.Client(
            base_url=self.gateway,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout_seconds,
            transport=transport,
            trust_env=not is_loopback(self.gateway),  # no proxy reaches this machine for us, nor needs our token
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def launch(
        self, provider: str, spec: str, *, path: str = "", detached: bool = False, key: str | None = None
    ) -> Launch:
        """Start a launch of a repository; `spec` is written as in the URL, percent-encoded.

        The same `key` (random; made up here by default) names the same launch for a day, so asking again after a
        lost answer starts nothing twice. Raises `GatewayError`.
        """
        body: dict[str, object] = {"provider": provider, "spec": spec, "path": path}
        if detached:
            body["detached"] = True
        headers = {"Idempotency-Key": key or str(uuid.uuid4()), "Accept": "application/json"}
        answer = self._ask("POST", "/api/v1/launches", json=body, headers=headers)
        try:
            found = answer.json()
            launch_id = str(found["launch_id"])
            return Launch(launch_id, str(found["state"]), f"{self.gateway}/launches/{quote(launch_id, safe='')}")
        except (ValueError, KeyError, TypeError) as error:
            raise GatewayError(f"{self.gateway} answered something that is not a launch: is it a Bindery?") from error

    def cancel(self, launch_id: str) -> None:
        """Cancel a launch; one that has ended stays as it is. Raises `GatewayError`."""
        try:
            self._ask("DELETE", f"/api/v1/launches/{quote(launch_id, safe='')}")
        except GatewayError as error:
            if error.code != "conflict":
                raise

    def build_log(self, build_id: str, *, lines: int = 0) -> str:
        """What a build has said so far: all of it, its first `lines`, or, where that is negative, its last ones.

        Raises `GatewayError`.
        """
        url = f"{_build_url(build_id)}/log"
        return self._ask("GET", url, params={"lines": lines, "format": "text"}).text

    def cancel_build(self, build_id: str, *, operator_token: str = "") -> None:
        """Cancel a build. Raises `GatewayError`: `conflict` when it has ended, or while launches wait for it and
        `operator_token` is not given."""
        self._ask("DELETE", _build_url(build_id), headers=_operator(operator_token))

    def queue(self, *, operator_token: str = "") -> Queue:
        """How the queue of builds stands; only the operator is told the workers' names. Raises `GatewayError`."""
        answer = self._ask("GET", "/api/v1/queue", headers=_operator(operator_token))
        try:
            found = answer.json()
            return Queue(
                depth=int(found["depth"]),
                oldest_waiting_seconds=float(found["oldest_waiting_seconds"] or 0.0),
                running=int(found["running"]),
                capacity=int(found["capacity"]),
                workers=tuple(
                    Worker(str(one.get("name") or ""), int(one["slots"]), int(one["running"]))
                    for one in found["workers"]
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GatewayError(f"{self.gateway} answered something that is not a queue: is it a Bindery?") from error

    def events(self, launch_id: str) -> Iterator[Event]:
        """Yield each event of a launch once, from its beginning to its end, over as many connections as that takes.

        Raises `GatewayError` when the gateway refuses, or gives nothing new for `patience_seconds`.
        """
        url = f"/api/v1/launches/{quote(launch_id, safe='')}/events"
        position, wait_seconds, trouble = "", 0.5, ""
        news_at = time.monotonic()
        while True:
            try:
                for message in self._stream(url, position):
                    wait_seconds = message.retry_seconds or wait_seconds
                    position = message.position or position
                    if not message.data:
                        continue
                    news_at, trouble = time.monotonic(), ""
                    event = _event(message.data)
                    yield event
                    if event.is_final:
                        return
            except httpx.HTTPError as error:
                trouble = f": {error}" if str(error) else ""
            if time.monotonic() - news_at + wait_seconds > self._patience_seconds:
                raise GatewayError(f"The connection to {self.gateway} is lost{trouble}. The launch may be going on.")
            time.sleep(wait_seconds)

    def _stream(self, url: str, position: str) -> Iterator[_Message]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": position} if position else {})
        timeout = httpx.Timeout(self._timeout_seconds, read=self._silence_seconds)
        with self._http.stream("GET", url, headers=headers, timeout=timeout) as answer:
            if answer.status_code in {408, 429, 502, 503, 504}:
                answer.raise_for_status()  # a gateway that restarts: try again
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            yield from _messages(answer.iter_lines())

    def _ask(self, method: str, url: str, **rest: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, url, **rest)
        except httpx.HTTPError as error:
            raise GatewayError(f"{self.gateway} does not answer ({error}): is Bindery running there?") from error
        except httpx.InvalidURL as error:
            raise GatewayError(f"{self.gateway} is not the address of a gateway: {error}") from error
        if not answer.is_success:
            raise _refusal(answer)
        return answer


def _build_url(build_id: str) -> str:
    return f"/api/v1/builds/{quote(build_id, safe='')}"


def _operator(token: str) -> dict[str, str]:
    return {"Bindery-Operator-Token": token} if token else {}


def split_spec(argument: str) -> tuple[str, str]:
    """Split `<provider>/<spec>`, also when it comes as a link: `https://host/v2/gh/org/repo/ref`.

    Raises `ValueError` when there is no spec in it.
    """
    raw = urlsplit(argument).path if argument.startswith(("http://", "https://")) else argument
    _, found, after = raw.rpartition("/v2/") if raw.startswith("/") else ("", "", raw)
    provider, _, spec = after.strip("/").partition("/")
    if not provider or not spec or (raw is not argument and not found):
        raise ValueError(f"{argument!r} is not <provider>/<spec>, as in gh/jupyterhub/requirements/HEAD")
    return provider, spec


def _messages(lines: Iterable[str]) -> Iterator[_Message]:
    """Parse an event stream (WHATWG HTML, section 9.2.6). A message that the connection cut short is dropped."""
    position, data, retry = "", list[str](), None
    for line in lines:
        if not line:
            if data or retry is not None:
                yield _Message(position, "\n".join(data), retry)
            data, retry = [], None
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            position = value
        elif name == "retry" and value.isascii() and value.isdigit():
            retry = int(value) / 1000


def _event(data: str) -> Event:
    try:
        found = json.loads(data)
        problem = found.get("error") or {}
        return Event(
            phase=str(found["phase"]),
            message=str(found.get("message") or ""),
            url=str(found.get("url") or ""),
            address=str(found.get("open_url") or ""),
            token=str(found.get("token") or ""),
            problem=_sentence(problem) if isinstance(problem, dict) else str(problem),
            code=str(problem.get("code", "")) if isinstance(problem, dict) else "",
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise GatewayError(f"The gateway sent an event that can't be read: {data[:200]!r}") from error


def _refusal(answer: httpx.Response) -> GatewayError:
    try:
        problem = answer.json()
        message, code = _sentence(problem), str(problem.get("code", ""))
    except (ValueError, AttributeError):
        message, code = "", ""
    return GatewayError(message or f"{answer.url} answers {answer.status_code} {answer.reason_phrase}", code)


def _sentence(problem: dict[str, Any]) -> str:
    title, detail = str(problem.get("title") or ""), str(problem.get("detail") or "")
    return title if detail in title else detail if title in detail else f"{title.rstrip('.')}. {detail}"

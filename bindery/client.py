"""The Python client of a Bindery gateway: it starts a launch, follows it to its end, and cancels it.

with Client("http://127.0.0.1:8585") as bindery:
    launch = bindery.launch("git", "https%3A%2F%2Fexample.org%2Fnotebooks.git/HEAD")
    for event in bindery.events(launch.launch_id):
        print(event.message, end="")
"""

import json
import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from bindery.event_stream import Message, parse_messages
from bindery.local_gateway import is_loopback, start_token
from bindery.models import Event, Launch, Queue, Worker

RESTART_STATUSES = frozenset({408, 429, 502, 503, 504})
"""Status codes of a gateway that restarts: an event stream is opened again."""

RECONNECT_SECONDS = 0.5
OPERATOR_HEADER = "Bindery-Operator-Token"


class GatewayError(Exception):
    """The gateway refused a request, or did not answer it.

    `code` is one of the API's closed list; it is empty if there was no answer.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Client:
    """Client of one gateway's v1 API. Close it, or use it as a context manager."""

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
        """Create a client, which connects at its first request.

        `token` is the gateway's start token. If it is None and the gateway is on this machine, it is looked up in
        `BINDERY_START_TOKEN`, then in the data folder of the `make up` that runs there.

        An event stream that is silent for `silence_seconds` (keepalives count) is opened again. A stream that breaks
        is opened again until nothing new has come for `patience_seconds`.
        """
        self.gateway = gateway.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._silence_seconds = silence_seconds
        self._patience_seconds = patience_seconds

        if token is None:
            token = start_token(self.gateway)
        self._http = httpx.Client(
            base_url=self.gateway,
            headers=optional_header("Authorization", token and f"Bearer {token}"),
            timeout=timeout_seconds,
            transport=transport,
            trust_env=not is_loopback(self.gateway),  # on this machine no proxy is needed, or may see our token
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def launch(
        self,
        provider: str,
        spec: str,
        *,
        path: str = "",
        detached: bool = False,
        key: str | None = None,
        username: str = "",
        password: str = "",
    ) -> Launch:
        """Start a launch of a repository; `spec` is percent-encoded, as in the URL.

        `password`, or a token in its place, reads a private repository, with the `username` that goes with it if the
        forge wants one. It is used for this launch alone.

        For a day, a request with the same `key` (a random one by default) returns the same launch: if an answer is
        lost, the request can be repeated and starts no second launch. Raise `GatewayError`.
        """
        body: dict[str, object] = {"provider": provider, "spec": spec, "path": path}
        if detached:
            body["detached"] = True
        if password:
            body["credential"] = {"username": username, "password": password}
        headers = {"Idempotency-Key": key or str(uuid.uuid4()), "Accept": "application/json"}

        response = self.request("POST", "/api/v1/launches", json=body, headers=headers)
        try:
            content = response.json()
            launch_id = str(content["launch_id"])
            state = str(content["state"])
        except (ValueError, KeyError, TypeError) as error:
            raise GatewayError(f"{self.gateway} answered something that is not a launch: is it a Bindery?") from error

        return Launch(launch_id, state, f"{self.gateway}/launches/{quote(launch_id, safe='')}")

    def cancel(self, launch_id: str) -> None:
        """Cancel a launch; one that has ended stays as it is. Raise `GatewayError`."""
        try:
            self.request("DELETE", f"/api/v1/launches/{quote(launch_id, safe='')}")
        except GatewayError as error:
            if error.code != "conflict":
                raise

    def build_log(self, build_id: str, *, lines: int = 0) -> str:
        """Return the log of a build up to now.

        `lines`: how many of its first lines; if negative, of its last ones; 0 for all. Raise `GatewayError`.
        """
        url = f"{_build_url(build_id)}/log"
        return self.request("GET", url, params={"lines": lines, "format": "text"}).text

    def cancel_build(self, build_id: str, *, operator_token: str = "") -> None:
        """Cancel a build.

        Raise `GatewayError`: with code `conflict` if it has ended, or if launches wait for it and there is no
        `operator_token`.
        """
        self.request("DELETE", _build_url(build_id), headers=optional_header(OPERATOR_HEADER, operator_token))

    def queue(self, *, operator_token: str = "") -> Queue:
        """Return the queue of builds; only an operator gets the workers' names. Raise `GatewayError`."""
        response = self.request("GET", "/api/v1/queue", headers=optional_header(OPERATOR_HEADER, operator_token))

        try:
            content = response.json()
            return Queue(
                depth=int(content["depth"]),
                oldest_waiting_seconds=float(content["oldest_waiting_seconds"] or 0.0),
                running=int(content["running"]),
                capacity=int(content["capacity"]),
                workers=tuple(_worker(worker) for worker in content["workers"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GatewayError(f"{self.gateway} answered something that is not a queue: is it a Bindery?") from error

    def events(self, launch_id: str) -> Iterator[Event]:
        """Yield each event of a launch once, from its beginning to its end, and connect again as often as necessary.

        Raise `GatewayError` if the gateway refuses, or if nothing new has come for `patience_seconds`.
        """
        url = f"/api/v1/launches/{quote(launch_id, safe='')}/events"
        position = ""
        wait_seconds = RECONNECT_SECONDS
        problem = ""
        last_event_at = time.monotonic()

        while True:
            try:
                for message in self._stream(url, position):
                    wait_seconds = message.retry_seconds or wait_seconds
                    position = message.position or position
                    if not message.data:
                        continue

                    last_event_at = time.monotonic()
                    problem = ""
                    event = _event(message.data)
                    yield event
                    if event.is_final:
                        return
            except httpx.HTTPError as error:
                problem = f": {error}" if str(error) else ""

            if time.monotonic() - last_event_at + wait_seconds > self._patience_seconds:
                raise GatewayError(f"The connection to {self.gateway} is lost{problem}. The launch may be going on.")
            time.sleep(wait_seconds)

    def _stream(self, url: str, position: str) -> Iterator[Message]:
        headers = {"Accept": "text/event-stream"} | optional_header("Last-Event-ID", position)
        timeout = httpx.Timeout(self._timeout_seconds, read=self._silence_seconds)

        with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.status_code in RESTART_STATUSES:
                response.raise_for_status()
            if not response.is_success:
                response.read()
                raise _gateway_error(response)

            yield from parse_messages(response.iter_lines())

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send any request of the v1 API; the options are those of httpx. Raise `GatewayError`."""
        try:
            response = self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise GatewayError(f"{self.gateway} does not answer ({error}): is Bindery running there?") from error
        except httpx.InvalidURL as error:
            raise GatewayError(f"{self.gateway} is not the address of a gateway: {error}") from error

        if not response.is_success:
            raise _gateway_error(response)
        return response


def split_spec(argument: str) -> tuple[str, str]:
    """Split `<provider>/<spec>`, also in the form of a link: `https://host/v2/gh/org/repo/ref`.

    Raise `ValueError` if there is no spec in it.
    """
    is_link = argument.startswith(("http://", "https://"))
    path = urlsplit(argument).path if is_link else argument

    separator = ""
    if path.startswith("/"):
        _, separator, path = path.rpartition("/v2/")
    provider, _, spec = path.strip("/").partition("/")

    if not provider or not spec or (is_link and not separator):
        raise ValueError(f"{argument!r} is not <provider>/<spec>, as in gh/jupyterhub/requirements/HEAD")
    return provider, spec


def _build_url(build_id: str) -> str:
    return f"/api/v1/builds/{quote(build_id, safe='')}"


def optional_header(name: str, value: str) -> dict[str, str]:
    """Return the header `name`, or no header if its value is empty."""
    return {name: value} if value else {}


def _worker(content: dict[str, Any]) -> Worker:
    return Worker(
        name=str(content.get("name") or ""),
        slots=int(content["slots"]),
        running=int(content["running"]),
    )


def _event(data: str) -> Event:
    try:
        content = json.loads(data)
        problem = content.get("error") or {}
        if not isinstance(problem, dict):
            problem = {"title": problem}

        return Event(
            phase=str(content["phase"]),
            message=str(content.get("message") or ""),
            url=str(content.get("url") or ""),
            address=str(content.get("open_url") or ""),
            token=str(content.get("token") or ""),
            problem=_problem_text(problem),
            code=str(problem.get("code", "")),
            cause=_cause_text(problem.get("cause")),
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise GatewayError(f"The gateway sent an event that can't be read: {data[:200]!r}") from error


def _cause_text(cause: object) -> str:
    return str(cause.get("text") or "") if isinstance(cause, dict) else ""


def _gateway_error(response: httpx.Response) -> GatewayError:
    message = ""
    code = ""
    try:
        problem = response.json()
        message = _problem_text(problem)
        code = str(problem.get("code", ""))
    except (ValueError, AttributeError):
        pass

    return GatewayError(message or f"{response.url} answers {response.status_code} {response.reason_phrase}", code)


def _problem_text(problem: dict[str, Any]) -> str:
    """Return title and detail of a problem; one of them alone if the other repeats it."""
    title = str(problem.get("title") or "")
    detail = str(problem.get("detail") or "")
    if detail in title:
        return title
    if title in detail:
        return detail

    return f"{title.rstrip('.')}. {detail}"

"""The builder's API and workers as processes of their own, with a Redis."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import redis

from services.builder.image_names import image_name
from services.common.models import BuildInput, ResolvedRepo
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.stack import free_ports
from tests.support.valkey import Valkey, running_valkey

TOKEN = "token-of-the-builders-tests"
OPERATOR = "operator-token-of-the-builders-tests"
FINAL = frozenset({"built", "failed", "cancelled"})


@dataclass(kw_only=True)
class Part:
    """One process."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """SIGTERM, and wait for the end."""
        self.process.terminate()
        self.process.wait(30)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def log(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def is_healthy(self) -> bool:
        assert self.process.poll() is None, f"{self.name} has ended: {self.log()[-3000:]}"
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=10, trust_env=False).status_code == 200
        return False


class Builders:
    """APIs and workers on one Redis, all with the same settings: `BINDERY_<NAME>`, in lower case here.

    `api_settings` are those that only the APIs have.
    """

    def __init__(
        self, folder: Path, valkey: Valkey, *, api_settings: Mapping[str, object] | None = None, **settings: object
    ) -> None:
        self._folder = folder
        self.valkey = valkey
        self.settings = {
            "service_token": TOKEN, "operator_token": OPERATOR, "installation_id": folder.name,
            "data_dir": folder / "data", "build_cancel_grace_seconds": 0, "log_level": "info",
        } | settings  # fmt: skip
        self._api_settings = api_settings or {}
        self.parts: list[Part] = []
        self.client = httpx.Client(
            headers={"Authorization": f"Bearer {TOKEN}", "Bindery-Operator-Token": OPERATOR},
            timeout=30,
            trust_env=False,
        )

    def start_api(self) -> Part:
        return self._start("services.builder", "api")

    def start_worker(self) -> Part:
        return self._start("services.builder.worker", "worker")

    def _start(self, module: str, kind: str) -> Part:
        name = f"{kind}-{len(self.parts) + 1}"
        port = free_ports()
        user = "worker" if kind == "worker" else "builder"
        url = self.valkey.url_in(str(self.settings["installation_id"]), user)
        settings = {"redis_url": url, **self.settings, **(self._api_settings if kind == "api" else {})}
        variables = {f"BINDERY_{key.upper()}": str(value) for key, value in settings.items()}
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("BINDERY_", "KUBECONFIG"))}
        environ |= variables | {"BINDERY_LISTEN_PORT": str(port), "NO_PROXY": "*"}
        output = self._folder / f"{name}.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module], cwd=CHECKOUT, env=environ, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        part = Part(name=name, url=f"http://127.0.0.1:{port}", process=process, output=output)
        self.parts.append(part)
        eventually(lambda: part.is_healthy or (kind == "worker" and "health" in part.log()), f"{name} is up", 60)
        return part

    @property
    def api(self) -> Part:
        return next(part for part in self.parts if part.name.startswith("api") and part.process.poll() is None)

    @property
    def workers(self) -> list[Part]:
        return [part for part in self.parts if part.name.startswith("worker") and part.process.poll() is None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        for part in self.parts:
            if part.process.poll() is None:
                part.process.send_signal(signal.SIGCONT)
                part.process.terminate()
        for part in self.parts:
            try:
                part.process.wait(20)
            except subprocess.TimeoutExpired:
                part.kill()

    def valkey_flush(self) -> None:
        """FLUSHALL."""
        with contextlib.closing(redis.Redis.from_url(self.valkey.url)) as client:
            client.flushall()

    # Builds

    def repo(self, url: str, ref: str, **others: object) -> ResolvedRepo:
        """Return a resolved repository."""
        return resolved_repo(url, ref, **others)

    def image(self, url: str, ref: str) -> str:
        """Return the image name of a repository."""
        return image_name(str(self.settings["image_prefix"]), BuildInput.of(self.repo(url, ref)))

    def request_build(self, url: str, ref: str, *, api: Part | None = None, **others: object) -> dict[str, Any]:
        """Ask for a build."""
        body = {"repo": self.repo(url, ref).model_dump(mode="json"), **others}
        reply = self.client.post(f"{(api or self.api).url}/builds", json=body)
        assert reply.status_code in {200, 202}, reply.text
        build: dict[str, Any] = reply.json()
        return build

    def read(self, build_id: str) -> dict[str, Any]:
        build: dict[str, Any] = self.client.get(f"{self.api.url}/builds/{build_id}").json()
        return build

    def log(self, build_id: str, after: str = "") -> str:
        """Return the log of a build so far, from a position on."""
        params = {"format": "text", "after": after}
        reply = self.client.get(f"{self.api.url}/builds/{build_id}/log", params=params)
        assert reply.status_code == 200, reply.text
        return reply.text

    def assert_every_line_once(self, build_id: str) -> None:
        """Check that no line of a build that printed numbered lines is missing, and none was told twice."""
        assert_every_line_once(self.log(build_id))

    def until_logged(self, build_id: str, text: str, seconds: float = 60) -> None:
        """Wait for words in the log."""

        def is_logged() -> bool:
            build = self.read(build_id)
            is_there = text in self.log(build_id)
            assert is_there or build["state"] not in FINAL, (
                f"ended without {text!r}: {build}; {self.log(build_id)[-2000:]}"
            )
            return is_there

        eventually(is_logged, f"{text!r} in the log of {build_id}", seconds)

    def until_state(self, build_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for one of some states."""

        def in_state() -> dict[str, Any] | None:
            build = self.read(build_id)
            if build["state"] in states:
                return build
            assert build["state"] not in FINAL, f"{build}; {self.log(build_id)[-2000:]}"
            return None

        build_in_state: dict[str, Any] = eventually(in_state, f"{build_id} is {' or '.join(states)}", seconds)
        return build_in_state

    def outcome(self, build_id: str, seconds: float = 120) -> dict[str, Any]:
        """Wait for the end."""
        build_at_end: dict[str, Any] = eventually(
            lambda: (build := self.read(build_id))["state"] in FINAL and build, f"an end of {build_id}", seconds
        )
        return build_at_end

    def cancel(self, build_id: str) -> None:
        """Cancel as the operator."""
        reply = self.client.delete(f"{self.api.url}/builds/{build_id}")
        assert reply.status_code in {202, 204}, reply.text


def resolved_repo(url: str, ref: str, **others: object) -> ResolvedRepo:
    """Return a resolved repository."""
    name = url.rpartition("//")[2]
    return ResolvedRepo.model_validate(
        {
            "provider": "git", "spec": f"{name}/{ref}", "repo_url": url, "ref": ref, "resolved_spec": name,
            "ref_url": url, "slug": name, "display_name": name, **others,
        }
    )  # fmt: skip


def assert_every_line_once(text: str) -> None:
    """Check that no line of a log of numbered lines is missing, and none was told twice."""
    last_line = next((line for line in text.splitlines() if line.startswith("those were ")), "")
    assert last_line, f"the end of the build was not told: {text[-1000:]}"
    lines = [int(line.split()[1]) for line in text.splitlines() if line.startswith("line ")]
    assert lines == list(range(1, int(last_line.split()[2]) + 1)), f"lost or twice: {lines}"


@contextlib.contextmanager
def running_builders(folder: Path, **settings: Any) -> Iterator[Builders]:
    """Run a Redis, one API and one worker."""
    (folder / "redis").mkdir()
    with running_valkey(folder / "redis") as valkey, Builders(folder, valkey, **settings) as builders:
        builders.start_worker()
        builders.start_api()
        yield builders

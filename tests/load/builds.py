"""What the builder costs: many builds queued at once, whose Jobs print a line and put a tiny image into the registry.

The Jobs are real ones, on the cluster of the tests (tests/support/cluster_start.py); repo2docker does not run in them,
so what is measured is the queue, the supervision, and the API server's part.
"""

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.load.processes import cpu_seconds
from tests.load.table import Row
from tests.support.builder_processes import Builders, Part, running_builders
from tests.support.cluster import Cluster
from tests.support.cluster_start import cluster
from tests.support.engine import REGISTRY, Engine, engine, registry_url
from tests.support.paths import TESTS

NOOP = TESTS / "cluster" / "noop_build.py"
WORKERS = 2
SLOTS = 8
"""Builds that one worker supervises at once: what a single node of two cores can start Jobs for."""
IDLE_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What many builds took."""

    builds: int
    seconds: float
    queued: list[float]
    """Seconds from the request until a worker had the build, each."""
    handover_seconds: list[float]
    """Seconds from a slot's becoming free until its next build ran, each."""
    redis: float
    cpu: dict[str, float]
    api_server: float
    not_built: int

    def rows(self) -> list[Row]:
        """Return the table's rows."""
        n = self.builds
        cpu = sum(self.cpu.values())
        shares = ", ".join(f"{name} {1000 * used / n:.1f}" for name, used in self.cpu.items())
        numbers = {
            "redis_per_build": self.redis / n, "cpu_ms_per_build": 1000 * cpu / n,
            "api_requests_per_build": self.api_server / n, "builds_per_second": n / self.seconds,
        }  # fmt: skip
        return [
            Row(
                f"{n} builds: in all", f"{self.seconds:.1f} s, {n / self.seconds:.1f} builds/s", goal="all built",
                note=f"{self.not_built} not built; {WORKERS} workers, {WORKERS * SLOTS} slots", numbers=numbers,
                failed=self.not_built,
            ),
            Row(f"{n} builds: from request to start", _spread(self.queued), note="most of it waits for a slot"),
            Row(
                f"{n} builds: from a free slot to the next start", _spread(self.handover_seconds),
                note="our own part of it",
            ),
            Row(f"{n} builds: Redis commands each", f"{self.redis / n:.0f}", note="what an idle builder does left out"),
            Row(f"{n} builds: API server requests each", f"{self.api_server / n:.1f}"),
            Row(f"{n} builds: CPU each", f"{1000 * cpu / n:.0f} ms", note=shares),
        ]  # fmt: skip


async def measure(counts: list[int]) -> list[Row]:
    """As many builds at once as each of `counts` says, one after the other.

    Raise `NoClusterError` or `NoEngineError`, which say in a line what is missing.
    """
    rows = [Row("Queued builds of a no-op Job", "")]
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="bindery-load-") as folder:
        builders = await asyncio.to_thread(_start, stack, Path(folder))
        async with httpx.AsyncClient(headers=builders.client.headers, timeout=60, trust_env=False) as client:
            await _run(builders, client, 2, "warm")  # images are pulled, connections open
            for count in counts:
                rows += (await _run(builders, client, count, f"n{count}")).rows()
    return rows


def _start(stack: ExitStack, folder: Path) -> Builders:
    the_cluster: Cluster = stack.enter_context(cluster())
    the_engine: Engine = stack.enter_context(engine())
    image = f"{REGISTRY}/{the_engine.builder}"
    the_engine.docker("tag", the_engine.builder, image)
    the_engine.docker("push", "--quiet", image, seconds=300)
    namespace = stack.enter_context(the_cluster.namespace(f"bindery-load-{int(time.time())}"))
    builders = stack.enter_context(
        running_builders(
            folder,
            executor="kubernetes",
            kubernetes_config=namespace.kubeconfig(folder),
            kubernetes_command=json.dumps(["python3", "-c", NOOP.read_text()]),
            kubernetes_docker_host="",
            builder_image=image,
            image_prefix=f"{REGISTRY}/{namespace.name}/",
            repo2docker_extra_envs=json.dumps({"NOOP_REGISTRY": registry_url(the_cluster.host)}),
            registry_insecure=True,
            build_slots=SLOTS,
            build_queue_max_seconds=3600,
        )
    )
    for _ in range(WORKERS - 1):
        builders.start_worker()
    return builders


async def _run(builders: Builders, client: httpx.AsyncClient, count: int, name: str) -> Cost:
    idle = await _commands_per_second(builders)
    before = await _read_counters(builders, client)
    started_at = time.monotonic()
    ids = await asyncio.gather(*(_ask(builders, client, name, number) for number in range(count)))
    builds = [await _until_ended(builders, client, build_id) for build_id in ids]
    seconds = time.monotonic() - started_at
    after = await _read_counters(builders, client)
    timed = [build for build in builds if build.get("started_at")]
    return Cost(
        builds=count,
        seconds=seconds,
        queued=[build["started_at"] - build["created_at"] for build in timed],
        handover_seconds=list(_handover_seconds(timed)),
        redis=after.redis - before.redis - idle * seconds,
        cpu={part: used - before.cpu[part] for part, used in after.cpu.items()},
        api_server=after.api_server - before.api_server,
        not_built=sum(build["state"] != "built" for build in builds),
    )


def _handover_seconds(builds: list[dict[str, Any]]) -> Iterator[float]:
    """Yield how long each slot stood free before its next build, the slots being handed on in the order of time."""
    free = sorted(build["finished_at"] for build in builds)
    later = sorted(build["started_at"] for build in builds)[WORKERS * SLOTS :]
    for freed_at, taken_at in zip(free, later, strict=False):
        yield max(0.0, taken_at - freed_at)


async def _ask(builders: Builders, client: httpx.AsyncClient, name: str, number: int) -> str:
    url = f"https://example.org/{name}/{number % 100}"  # of many repositories, so that no cap holds them
    repo = builders.repo(url, f"{name}{number}")
    body = {"repo": repo.model_dump(mode="json")}
    reply = await client.post(f"{builders.api.url}/builds", json=body)
    if reply.is_error:
        raise RuntimeError(f"no build: {reply.text}\n{builders.api.log()[-3000:]}")
    return str(reply.json()["build_id"])


async def _until_ended(builders: Builders, client: httpx.AsyncClient, build_id: str) -> dict[str, Any]:
    """Return the build after its end, which its event stream tells: nobody polls."""
    url = f"{builders.api.url}/builds/{build_id}"
    with contextlib.suppress(httpx.ReadTimeout):
        async with client.stream("GET", f"{url}/events", timeout=httpx.Timeout(60, read=1800)) as events:
            async for _ in events.aiter_lines():
                pass
    view: dict[str, Any] = (await client.get(url)).json()
    return view


@dataclass(frozen=True)
class _Counters:
    redis: float
    cpu: dict[str, float]
    api_server: float


async def _read_counters(builders: Builders, client: httpx.AsyncClient) -> _Counters:
    parts = [builders.api, *builders.workers]
    cpu = {part.name: cpu_seconds(part.process.pid) for part in parts}
    cpu["redis"] = cpu_seconds(builders.valkey.process.pid)
    return _Counters(
        redis=_commands(builders),
        cpu=cpu,
        api_server=sum([await _api_requests(part, client) for part in parts]),
    )


async def _api_requests(part: Part, client: httpx.AsyncClient) -> float:
    lines = (await client.get(f"{part.url}/metrics")).text.splitlines()
    call_lines = (
        line for line in lines if line.startswith("bindery_http_calls_total{") and 'peer="kubernetes"' in line
    )
    return sum(float(line.rpartition(" ")[2]) for line in call_lines)


def _commands(builders: Builders) -> float:
    with contextlib.closing(redis.Redis.from_url(builders.valkey.url)) as client:
        return float(client.info("stats")["total_commands_processed"])


async def _commands_per_second(builders: Builders) -> float:
    """Measure what an idle builder asks of Redis: leases, sweeps, arq's polls."""
    before = _commands(builders)
    started_at = time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    return (_commands(builders) - before) / (time.monotonic() - started_at)


def _spread(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "too few to say"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s"

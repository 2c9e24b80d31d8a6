"""An API server without a cluster: Jobs, pods, Secrets, events and logs over HTTP; tests play the controllers.

It speaks as the real one does in `tests/cluster`, and only of what `services` asks for.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from services.builder.executors.kubernetes.executor import KubernetesExecutor
from services.builder.executors.kubernetes.settings import KubernetesSettings
from tests.support.settings import settings_for

Json = dict[str, Any]
NAMESPACE = "bindery-builds"
STAMP = "2026-11-23T23:00:00Z"


class KubernetesApi:
    """Objects by kind and name, with their history for watches. `job_uids` has the uids of all Jobs that ever were."""

    def __init__(self) -> None:
        kinds = ("jobs", "pods", "secrets", "events", "configmaps")
        self.objects: dict[str, dict[str, Json]] = {kind: {} for kind in kinds}
        self.logs: dict[str, bytes] = {}
        self.job_uids: list[str] = []
        self.is_full = False
        """Whether a quota of the namespace lets no Job be made."""
        self.forbidden: set[str] = set()
        """The kinds whose objects the caller may not read by their name."""
        self.reads: list[str] = []
        """The kind of each object that was read by its name."""
        self.log_streams: dict[str, int] = {}
        """The number of log streams that are open, by pod."""
        self.log_refusals: dict[str, web.Response] = {}
        """The reply to each request of a pod's log, in place of the log."""
        self.refused_logs = 0
        """How many requests have had such a reply."""
        self._history: list[tuple[int, str, str, Json]] = []
        self._uids = count(1)
        self._news = asyncio.Condition()

    async def put(self, kind: str, raw: Json, *, how: str = "MODIFIED") -> Json:
        """Add or change an object, or delete it, and tell the watches."""
        meta = raw["metadata"]
        meta.setdefault("uid", f"{kind}-uid-{next(self._uids)}")
        meta.setdefault("creationTimestamp", STAMP)
        meta["resourceVersion"] = str(len(self._history) + 1)
        if how == "DELETED":
            del self.objects[kind][meta["name"]]
        else:
            self.objects[kind][meta["name"]] = raw
        self._history.append((len(self._history) + 1, kind, how, json.loads(json.dumps(raw))))
        async with self._news:
            self._news.notify_all()
        return raw

    async def delete_job(self, name: str) -> None:
        """Delete a Job, and its pods with it, as the garbage collector does."""
        uid = self.objects["jobs"][name]["metadata"]["uid"]
        await self.put("jobs", self.objects["jobs"][name], how="DELETED")
        for pod in [candidate for candidate in self.objects["pods"].values() if _owner(candidate) == uid]:
            await self.put("pods", pod, how="DELETED")

    async def pod(self, job: str, *, state: Json | None = None, log: bytes = b"", **status: object) -> Json:
        """Make the pod of a Job as its controller would, or change it."""
        job_object = self.objects["jobs"][job]
        name = f"{job}-{job_object['metadata']['uid'].rpartition('-')[2]}"
        labels = job_object["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
        labels |= {"batch.kubernetes.io/controller-uid": job_object["metadata"]["uid"]}
        self.logs[name] = log
        containers = [{"name": "builder", "state": state}] if state else []
        raw = {
            "metadata": {"name": name, "labels": labels},
            "spec": job_object["spec"]["template"]["spec"],
            "status": {"phase": "Pending", "containerStatuses": containers} | status,
        }
        return await self.put("pods", raw)

    async def warn(self, pod: str, reason: str, message: str, *, at: str = "2020-01-01T00:00:00Z") -> None:
        """Warn of a pod, or do so again."""
        about = {"kind": "Pod", "name": pod}
        times = self.objects["events"].get(f"{pod}.{reason}", {}).get("count", 0)
        raw = {
            "metadata": {"name": f"{pod}.{reason}"}, "type": "Warning", "involvedObject": about, "reason": reason,
            "message": message, "lastTimestamp": at, "count": times + 1,
        }  # fmt: skip
        await self.put("events", raw)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of any of the kinds."""
        kind, _, rest = request.path.partition(f"/namespaces/{NAMESPACE}/")[2].partition("/")
        name, _, part = rest.partition("/")
        if part == "log":
            return await self._log(request, name)
        if request.method == "POST":
            return await self._create(kind, await request.json())
        if name:
            return await self._object(request, kind, name)
        if "watch" in request.query:
            return await self._watch(request, kind)
        meta = {"resourceVersion": str(len(self._history))}
        return web.json_response({"metadata": meta, "items": list(self.objects[kind].values())})

    async def _create(self, kind: str, raw: Json) -> web.Response:
        name = raw["metadata"]["name"]
        if kind == "jobs" and self.is_full:
            return _refusal(403, f'jobs.batch "{name}" is forbidden: exceeded quota: full')
        if name in self.objects[kind]:
            return _refusal(409, f'"{name}" already exists')
        stored_object = await self.put(kind, raw, how="ADDED")
        if kind == "jobs":
            self.job_uids.append(stored_object["metadata"]["uid"])
        return web.json_response(stored_object, status=201)

    async def _object(self, request: web.Request, kind: str, name: str) -> web.Response:
        stored_object = self.objects[kind].get(name)
        if request.method == "GET":
            self.reads.append(kind)
            if kind in self.forbidden:
                return _refusal(403, f'{kind} "{name}" is forbidden: User "builder" cannot get resource "{kind}"')
        if stored_object is None:
            return _refusal(404, f'"{name}" not found')
        if request.method == "PATCH":
            stored_object["metadata"]["annotations"] |= (await request.json())["metadata"]["annotations"]
            await self.put(kind, stored_object)
        if request.method == "DELETE":
            required_uid = (await request.json()).get("preconditions", {}).get("uid")
            if required_uid not in {None, stored_object["metadata"]["uid"]}:
                return _refusal(409, "the UID in the precondition does not match")
            await self.delete_job(name)
        return web.json_response(stored_object)

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        reply = web.StreamResponse()
        version = int(request.query["resourceVersion"])
        await reply.prepare(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._send_changes(reply, kind, version)
        return reply

    async def _send_changes(self, reply: web.StreamResponse, kind: str, version: int) -> None:
        while True:
            for number, of_kind, how, raw in self._history[version:]:
                version = number
                if of_kind == kind:
                    await reply.write(json.dumps({"type": how, "object": raw}).encode() + b"\n")
            async with self._news:
                await self._news.wait_for(lambda version=version: len(self._history) > version)  # type: ignore[misc]

    async def _log(self, request: web.Request, pod: str) -> web.StreamResponse:
        if pod not in self.objects["pods"]:
            return _refusal(404, f'pods "{pod}" not found')
        if pod in self.log_refusals:
            refusal = self.log_refusals[pod]
            self.refused_logs += 1
            return web.Response(status=refusal.status, body=refusal.body)

        reply = web.StreamResponse()
        await reply.prepare(request)
        await reply.write(self.logs[pod])
        if "follow" in request.query:
            self.log_streams[pod] = self.log_streams.get(pod, 0) + 1
            try:
                async with self._news:
                    await self._news.wait_for(lambda: _has_ended(self.objects["pods"].get(pod)))
            finally:
                self.log_streams[pod] -= 1
        return reply


def _owner(pod: Json) -> str:
    return str(pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"])


def _has_ended(pod: Json | None) -> bool:
    return pod is None or pod["status"]["phase"] in {"Succeeded", "Failed"}


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"message": message, "code": status}, status=status)


@contextlib.asynccontextmanager
async def serving(answer: Any, folder: Path) -> AsyncIterator[Path]:
    """Answer on a port of its own; the kubeconfig that leads there."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}], "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield path
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def working(
    api: KubernetesApi, folder: Path, **settings: object
) -> AsyncIterator[Callable[[], KubernetesExecutor]]:
    """Yield a function that makes executors, each as another worker has it."""
    async with serving(api.answer, folder) as config, executors(config, **settings) as start_executor:
        yield start_executor


@contextlib.asynccontextmanager
async def executors(kubeconfig: Path, **settings: object) -> AsyncIterator[Callable[[], KubernetesExecutor]]:
    """Yield a function that makes executors on the API server of a kubeconfig."""
    made: list[KubernetesExecutor] = []

    def start_executor() -> KubernetesExecutor:
        values = {"kubernetes_config": str(kubeconfig), "kubernetes_settle_seconds": 0} | settings
        made.append(KubernetesExecutor(settings_for(KubernetesSettings, values)))
        return made[-1]

    try:
        yield start_executor
    finally:
        for executor in made:
            await executor.aclose()

"""The few calls of Kubernetes' API that start and end a server's pod, in memory; calls may get no answer."""

import asyncio
from types import SimpleNamespace
from typing import Any

from kubernetes_asyncio.client import ApiException, V1ConfigMap, V1OwnerReference


class PodsAndSecrets:
    """A namespace. `hangs` and `late` count the calls of each kind still to come that get no answer.

    One that hangs does nothing; one that is late does what it was asked, and the answer is lost.
    """

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.config_maps: dict[str, V1ConfigMap | ApiException] = {}
        """ConfigMaps, or the errors that reading them gets."""
        self.owners: dict[str, list[V1OwnerReference] | None] = {}
        """The owner references of what was made last, by its kind."""
        self.hangs: dict[str, int] = {}
        self.late: dict[str, int] = {}
        self.calls: list[str] = []

    @property
    def reflector(self) -> Any:
        """What KubeSpawner sees of the pods."""
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loaded.set_result(None)
        return SimpleNamespace(pods=self.pods, first_load_future=loaded)

    async def create_namespaced_pod(self, namespace: str, pod: Any) -> None:
        key = f"{namespace}/{pod.metadata.name}"
        self.owners["pod"] = pod.metadata.owner_references
        [port] = pod.spec.containers[0].ports
        running = {
            "spec": {"containers": [{"ports": [{"name": port.name, "containerPort": port.container_port}]}]},
            "metadata": {"name": pod.metadata.name, "uid": "1", "annotations": pod.metadata.annotations},
            "status": {
                "phase": "Running", "podIP": "127.0.0.1",
                "containerStatuses": [{"ready": True, "state": {"running": {}}}],
            },
        }  # fmt: skip
        await self._call("create pod", lambda: _take(self.pods, key, running))

    async def create_namespaced_secret(self, namespace: str, secret: Any) -> None:
        key = f"{namespace}/{secret.metadata.name}"
        self.owners["secret"] = secret.metadata.owner_references
        await self._call("create secret", lambda: _take(self.secrets, key, secret.string_data))

    async def delete_namespaced_pod(self, name: str, namespace: str, **_: object) -> None:
        await self._call("delete pod", lambda: _drop(self.pods, f"{namespace}/{name}"))

    async def delete_namespaced_secret(self, name: str, namespace: str) -> None:
        await self._call("delete secret", lambda: _drop(self.secrets, f"{namespace}/{name}"))

    async def read_namespaced_config_map(self, name: str, namespace: str) -> V1ConfigMap:
        await self._call("read config map", lambda: None)
        found = self.config_maps.get(f"{namespace}/{name}") or ApiException(status=404, reason="Not Found")
        if isinstance(found, ApiException):
            raise found
        return found

    async def _call(self, kind: str, change: Any) -> None:
        self.calls.append(kind)
        await asyncio.sleep(0)  # others go on meanwhile, as they do while a real call is under way
        if self.hangs.get(kind):
            self.hangs[kind] -= 1
            await asyncio.Event().wait()
        change()
        if self.late.get(kind):
            self.late[kind] -= 1
            await asyncio.Event().wait()


def _take(objects: dict[str, Any], key: str, value: Any) -> None:
    if key in objects:
        raise ApiException(status=409, reason="Conflict")
    objects[key] = value


def _drop(objects: dict[str, Any], key: str) -> None:
    if objects.pop(key, None) is None:
        raise ApiException(status=404, reason="Not Found")

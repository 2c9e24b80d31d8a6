"""The owner of servers' pods and Secrets: a ConfigMap, with which Kubernetes' garbage collector removes them.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

import asyncio
import time
from typing import Any

from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client import ApiException, V1OwnerReference
from traitlets import Float, Unicode
from traitlets.config import Configurable

from deploy.jupyterhub.binder_spawner import refusal


class OwnerUids:
    """The uids of ConfigMaps, remembered for all servers of a hub."""

    def __init__(self) -> None:
        self._reading = asyncio.Lock()
        self._read: dict[tuple[str, str], tuple[str, float]] = {}
        """Uid, and the monotonic time until which it counts, by namespace and name."""

    async def uid(self, api: Any, namespace: str, name: str, *, remembered_seconds: float) -> str:
        """Return the uid of a ConfigMap, which is read if none is remembered.

        Raise an `HTTPError` if the ConfigMap is missing or may not be read, and `ApiException`.
        """
        async with self._reading:
            now = time.monotonic()
            self._read = {owner: (uid, until) for owner, (uid, until) in self._read.items() if now < until}
            uid, _ = self._read.get((namespace, name), ("", 0.0))
            if not uid:
                uid = await _read_uid(api, namespace, name)
                self._read[namespace, name] = (uid, now + remembered_seconds)
        return uid


class OwnerMixin(Configurable):
    """Finds the owner of a server's objects. Place it before KubeSpawner."""

    owner_config_map = Unicode(
        "",
        config=True,
        help="Name of a ConfigMap in the servers' namespace that owns each pod and its Secret: whoever deletes it, as "
        "`helm uninstall` does, deletes them. The hub needs the right to get it. Empty: nothing owns them.",
    )
    owner_remembered_seconds = Float(
        60, config=True, help="How long the hub remembers the uid of that ConfigMap; 0: it is read for each server."
    )

    owner_uids = OwnerUids()
    """What all spawners of a hub know of the ConfigMap."""

    async def owner_references(self) -> list[V1OwnerReference]:
        """Return the owners of a server's pod and Secret; none without `owner_config_map`.

        Raise an `HTTPError` with the reason if the ConfigMap is missing or may not be read, `ApiException`, and
        `TimeoutError` if no try is answered within as long as KubeSpawner tries to create a pod.
        """
        name = self.owner_config_map
        if not name:
            return []

        async def uid() -> str:
            try:
                async with asyncio.timeout(self.k8s_api_request_timeout):
                    return await self.owner_uids.uid(
                        self.api, self.namespace, name, remembered_seconds=self.owner_remembered_seconds
                    )
            except TimeoutError:
                return ""

        found_uid = await exponential_backoff(
            uid,
            f"Could not read the ConfigMap {self.namespace}/{name}",
            timeout=self.k8s_api_request_retry_timeout,
        )
        return [V1OwnerReference(api_version="v1", kind="ConfigMap", name=name, uid=found_uid)]


async def _read_uid(api: Any, namespace: str, name: str) -> str:
    what = f"The ConfigMap {name} in {namespace}, to which servers belong,"
    try:
        metadata = (await api.read_namespaced_config_map(name, namespace)).metadata
    except ApiException as error:
        if error.status == 404:
            problem = "does not exist: the installation is being removed, or somebody has deleted it"
        elif error.status == 403:
            problem = "may not be read: the hub lacks the right to `get` it (`configmaps`)"
        else:
            raise
        raise refusal(500, f"{what} {problem}.") from None

    if metadata.deletion_timestamp:
        raise refusal(500, f"{what} is being deleted, as it is when the installation is removed.")
    return str(metadata.uid)

"""Servers as pods: KubeSpawner, with what a Binder launch asks for."""

import asyncio
import json
import secrets
from typing import Any

from aiohttp import ClientError
from jupyterhub.traitlets import ByteSpecification
from jupyterhub.utils import exponential_backoff, maybe_future
from kubernetes_asyncio.client import ApiException, V1EnvFromSource, V1ObjectMeta, V1Secret, V1SecretEnvSource
from kubespawner import KubeSpawner
from traitlets import Bool, List, Unicode, default

from deploy.jupyterhub import labels
from deploy.jupyterhub.binder_spawner import refusal
from deploy.jupyterhub.container_spawner import ContainerMixin, ended

_START = "bindery/start"


class BinderKubeSpawner(ContainerMixin, KubeSpawner):
    """Starts a launch's server as a pod of its own.

    Its defaults are those of pods that run strangers' code; every setting of KubeSpawner changes them as ever.
    """

    restart_policy = Unicode("Never", config=True, help="A server that ends has ended, with all that was in it.")
    enable_service_links = Bool(
        False, config=True, help="Whether the addresses of all services are in a server's environment."
    )
    gpu_resource = Unicode("nvidia.com/gpu", config=True, help="What a resource class's GPUs are called here.")
    default_mem_guarantee = ByteSpecification(
        "512M",
        config=True,
        help="What the scheduler reserves of the memory of a server that has only `default_mem_limit`: without it, "
        "Kubernetes would reserve all of that.",
    )
    secret_variables = List(
        Unicode(),
        ["JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"],
        config=True,
        help="Environment variables that stand in a Secret and not in the pod; empty where the hub may make none.",
    )

    _start_mark = ""
    _secret: V1Secret | None = None
    _is_pod_made = False

    @default("automount_service_account_token")
    def _no_account(self) -> bool:
        return False

    def limit_memory(self) -> None:
        """Give a limit to a server that has none, and then a smaller guarantee."""
        if not self.mem_limit and not self.mem_guarantee and self.default_mem_limit:
            self.mem_guarantee = min(self.default_mem_guarantee, self.default_mem_limit) or None
        super().limit_memory()

    async def start(self) -> str:
        """Start the pod and wait until the server answers; return its URL.

        Raises an `HTTPError` that says why, as soon as the pod has ended or can't be made.
        """
        self._start_mark, self._is_pod_made = secrets.token_hex(8), False
        starting = asyncio.ensure_future(super().start())
        ending = asyncio.ensure_future(self._until_it_ends())
        try:
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                raise refusal(500, ending.result())
            url = str(starting.result())
            await self.until_it_answers(url)
        except ApiException as error:
            raise refusal(500, f"Kubernetes refused the pod: {_words(error)}") from error
        except (ClientError, TimeoutError) as error:
            if self._is_pod_made:
                raise
            raise refusal(500, f"Failed to start the pod: Kubernetes does not answer ({error}).") from error
        finally:
            for task in (starting, ending):
                task.cancel()
            await asyncio.gather(starting, ending, return_exceptions=True)
        return url

    async def get_pod_manifest(self) -> Any:
        """Return the pod; the Secret that it names is made just before it."""
        pod = await super().get_pod_manifest()
        pod.metadata.labels = (pod.metadata.labels or {}) | labels.labels_of(self.user_options)
        told = labels.annotations_of(self.user_options) | {_START: self._start_mark}
        pod.metadata.annotations = (pod.metadata.annotations or {}) | told
        given = self.extra_pod_config or {}
        if "restartPolicy" not in given and "restart_policy" not in given:
            pod.spec.restart_policy = self.restart_policy
        if "enableServiceLinks" not in given and "enable_service_links" not in given:
            pod.spec.enable_service_links = self.enable_service_links
        container = pod.spec.containers[0]
        container.termination_message_policy = "FallbackToLogsOnError"
        if self.gpus:
            for kind in ("limits", "requests"):
                setattr(
                    container.resources,
                    kind,
                    {self.gpu_resource: self.gpus} | (getattr(container.resources, kind) or {}),
                )
        context = container.security_context or {}
        if self.dropped_capabilities and not context.get("privileged"):
            container.security_context = {"capabilities": {"drop": list(self.dropped_capabilities)}} | context
        self._keep_dollars(container)
        self._hide_secrets(container)
        return pod

    def _keep_dollars(self, container: Any) -> None:
        """Have what a launch says reach the server as it is: the kubelet replaces `$(NAME)` in an environment's values.

        `$$` is one `$`. What the operator configures may refer to other variables, as ever; Secrets are not expanded.
        Source: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
        """
        said = self.binder_env()
        for one in container.env or []:
            if one.value and one.value == said.get(one.name) and one.name not in self.secret_variables:
                one.value = one.value.replace("$", "$$")

    def _hide_secrets(self, container: Any) -> None:
        hidden = {one.name: one.value for one in container.env or [] if one.name in self.secret_variables and one.value}
        self._secret = None
        if not hidden:
            return
        container.env = [one for one in container.env if one.name not in hidden]
        container.env_from = [
            *(container.env_from or []),
            V1EnvFromSource(secret_ref=V1SecretEnvSource(name=self.pod_name)),
        ]
        metadata = V1ObjectMeta(
            name=self.pod_name,
            labels=self._build_common_labels({}) | labels.labels_of(self.user_options),
            annotations=labels.annotations_of(self.user_options),
        )
        self._secret = V1Secret(metadata=metadata, string_data=hidden)

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Make the Secret, then the pod; False where KubeSpawner is to try again.

        Each try makes both: where a pod of that name is there already, KubeSpawner calls our `stop`, which takes both
        away. Such a pod is of an earlier start, or of a try that succeeded after its time.
        """
        is_secret_made = self._secret is None or await self._make_secret(request_timeout)
        self._is_pod_made = is_secret_made and await super()._make_create_pod_request(pod, request_timeout)
        return self._is_pod_made

    async def _make_secret(self, request_timeout: float) -> bool:
        try:
            async with asyncio.timeout(request_timeout):
                await self.api.create_namespaced_secret(self.namespace, self._secret)
        except TimeoutError:
            return False
        except ApiException as error:
            if error.status != 409:
                raise
            # Of an earlier try: it is deleted and not replaced, for which the hub would need one right more.
            await self._delete_secret()
            return False
        return True

    async def _delete_secret(self) -> None:
        if self.secret_variables:
            await self._delete("secret")

    async def _delete(self, kind: str) -> None:
        """Delete what has the pod's name, with the patience of KubeSpawner; fine if it is gone."""
        delete = getattr(self.api, f"delete_namespaced_{kind}")

        async def is_deleted() -> bool:
            try:
                async with asyncio.timeout(self.k8s_api_request_timeout):
                    await delete(self.pod_name, self.namespace)
            except TimeoutError:
                return False
            except ApiException as error:
                if error.status != 404:
                    raise
            return True

        await exponential_backoff(
            is_deleted,
            f"Could not delete {kind} {self.namespace}/{self.pod_name}",
            timeout=self.k8s_api_request_retry_timeout,
        )

    # Its end

    def _pod(self) -> dict[str, Any] | None:
        """The pod of this start, as last heard of; not one of the same name that is still going away."""
        if self.pod_reflector is None:
            return None
        pod: dict[str, Any] | None = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}")
        is_ours = pod and (pod["metadata"].get("annotations") or {}).get(_START) == self._start_mark
        return pod if is_ours else None

    async def how_it_ended(self) -> str | None:
        return _ending(self._pod())

    async def _until_it_ends(self) -> str:
        while not (how := _ending(self._pod())):
            await asyncio.sleep(0.2)
        return how

    async def stop(self, now: bool = False) -> None:
        """Delete the pod and its Secret."""
        await super().stop(now=now)
        await self._delete_secret()

    async def run_post_stop_hook(self) -> None:
        # The hub calls `stop` only for what still runs: a pod that ended by itself leaves its Secret, and a hub that
        # died in mid-start both.
        await self._delete_secret()
        await maybe_future(super().run_post_stop_hook())

    async def delete_forever(self) -> None:
        """Leave nothing of a user that is deleted, also what a hub that was killed has never heard of."""
        await self._delete_secret()
        await self._delete("pod")
        await maybe_future(super().delete_forever())


def _ending(pod: dict[str, Any] | None) -> str | None:
    if pod is None or pod["status"].get("phase") not in {"Failed", "Succeeded"}:
        return None
    status = pod["status"]
    states = [one["state"].get("terminated") for one in status.get("containerStatuses") or []]
    found = next((one for one in states if one), None)
    if found is None:
        return f"The pod was ended: {status.get('reason') or status['phase']}. {status.get('message') or ''}".strip()
    why = found.get("reason") or ""
    return ended(found.get("exitCode"), "" if why in {"Error", "Completed"} else why, found.get("message") or "")


def _words(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"

"""KubeSpawner for Binder launches: servers as pods."""

import asyncio
import json
import secrets
from typing import Any

from aiohttp import ClientError
from jupyterhub.traitlets import ByteSpecification
from jupyterhub.utils import exponential_backoff, maybe_future
from kubernetes_asyncio.client import (
    ApiException,
    V1EnvFromSource,
    V1ObjectMeta,
    V1OwnerReference,
    V1Secret,
    V1SecretEnvSource,
)
from kubespawner import KubeSpawner
from traitlets import Bool, List, Unicode, default

from deploy.jupyterhub import labels
from deploy.jupyterhub.binder_spawner import refusal
from deploy.jupyterhub.container_spawner import ContainerMixin, end_sentence
from deploy.jupyterhub.owner_config_map import OwnerMixin

_START = "bindery/start"
"""Annotation that tells the pod of this start from an earlier pod of the same name."""

_CANCEL_SECONDS = 10.0
"""Time in which a cancelled start ends."""


class BinderKubeSpawner(OwnerMixin, ContainerMixin, KubeSpawner):
    """Starts a launch's server as a pod.

    The defaults suit pods that run the code of strangers; every setting of KubeSpawner still works.
    """

    restart_policy = Unicode("Never", config=True, help="A server that has ended is not restarted: its files are gone.")
    enable_service_links = Bool(
        False, config=True, help="Whether the addresses of all services are in a server's environment."
    )
    gpu_resource = Unicode("nvidia.com/gpu", config=True, help="Name of a resource class's GPUs in the cluster.")
    default_mem_guarantee = ByteSpecification(
        "512M",
        config=True,
        help="Memory that the scheduler reserves for a server that has only `default_mem_limit`: without this, "
        "Kubernetes would reserve the whole limit.",
    )
    secret_variables = List(
        Unicode(),
        ["JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"],
        config=True,
        help="Environment variables that are in a Secret and not in the pod; empty if the hub may create no Secrets.",
    )

    _start_id = ""
    _secret: V1Secret | None = None
    _is_pod_created = False

    @default("automount_service_account_token")
    def _no_account(self) -> bool:
        return False

    def limit_memory(self) -> None:
        """Set a memory limit on a server that has none, with a smaller guarantee."""
        if not self.mem_limit and not self.mem_guarantee and self.default_mem_limit:
            self.mem_guarantee = min(self.default_mem_guarantee, self.default_mem_limit) or None
        super().limit_memory()

    async def start(self) -> str:
        """Start the pod and wait until the server answers; return its URL.

        Raise an `HTTPError` with the reason as soon as the pod has ended or can't be created.
        """
        self._start_id = secrets.token_hex(8)
        self._is_pod_created = False
        starting = asyncio.ensure_future(super().start())
        ending = asyncio.ensure_future(self._wait_for_end())

        try:
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                raise refusal(500, ending.result())

            url = str(starting.result())
            await self.wait_for_answer(url)
        except ApiException as error:
            raise refusal(500, f"Kubernetes refused the pod: {_message(error)}") from error
        except (ClientError, TimeoutError) as error:
            if self._is_pod_created:
                raise
            raise refusal(500, f"Failed to start the pod: Kubernetes does not answer ({error}).") from error
        finally:
            for task in (starting, ending):
                if task.cancel():
                    task.add_done_callback(self._log_late_error)
            _, remaining = await asyncio.wait({starting, ending}, timeout=_CANCEL_SECONDS)
            if remaining:
                self.log.warning("The start of pod %s goes on although it was cancelled.", self.pod_name)

        return url

    def _log_late_error(self, task: asyncio.Task[str]) -> None:
        """Log the error by which a task ended that was cancelled: nobody awaits it any more."""
        if not task.cancelled() and (error := task.exception()):
            self.log.warning("The start of pod %s was cancelled, and failed: %r", self.pod_name, error)

    async def get_pod_manifest(self) -> Any:
        """Return the pod; the Secret that it refers to is created just before it."""
        pod = await super().get_pod_manifest()
        pod.metadata.labels = (pod.metadata.labels or {}) | labels.labels_of(self.user_options)
        annotations = labels.annotations_of(self.user_options) | {_START: self._start_id}
        pod.metadata.annotations = (pod.metadata.annotations or {}) | annotations

        configured = self.extra_pod_config or {}
        if "restartPolicy" not in configured and "restart_policy" not in configured:
            pod.spec.restart_policy = self.restart_policy
        if "enableServiceLinks" not in configured and "enable_service_links" not in configured:
            pod.spec.enable_service_links = self.enable_service_links

        owners = await self.owner_references()
        if owners:
            pod.metadata.owner_references = [*(pod.metadata.owner_references or []), *owners]

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

        self._escape_dollars(container)
        self._move_secrets(container, owners)
        return pod

    def _escape_dollars(self, container: Any) -> None:
        """Escape the values of a launch, in which the kubelet would expand `$(NAME)`; `$$` is one `$`.

        Values that the operator configures may still refer to other variables. Secrets are not expanded.
        Source: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
        """
        launch_env = self.binder_env()
        for variable in container.env or []:
            is_of_launch = variable.value and variable.value == launch_env.get(variable.name)
            if is_of_launch and variable.name not in self.secret_variables:
                variable.value = variable.value.replace("$", "$$")

    def _move_secrets(self, container: Any, owners: list[V1OwnerReference]) -> None:
        """Move the `secret_variables` of a container from its environment to a Secret."""
        secrets_by_name = {
            variable.name: variable.value
            for variable in container.env or []
            if variable.name in self.secret_variables and variable.value
        }
        self._secret = None
        if not secrets_by_name:
            return

        container.env = [variable for variable in container.env if variable.name not in secrets_by_name]
        container.env_from = [
            *(container.env_from or []),
            V1EnvFromSource(secret_ref=V1SecretEnvSource(name=self.pod_name)),
        ]
        metadata = V1ObjectMeta(
            name=self.pod_name,
            labels=self._build_common_labels({}) | labels.labels_of(self.user_options),
            annotations=labels.annotations_of(self.user_options),
            owner_references=owners or None,
        )
        self._secret = V1Secret(metadata=metadata, string_data=secrets_by_name)

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Create the Secret, then the pod. Return False if KubeSpawner must try again.

        Each try creates both: if a pod of that name exists, KubeSpawner calls our `stop`, which deletes both. Such a
        pod is of an earlier start, or of a try that succeeded after its timeout.
        """
        has_secret = self._secret is None or await self._create_secret(request_timeout)
        self._is_pod_created = has_secret and await super()._make_create_pod_request(pod, request_timeout)
        return self._is_pod_created

    async def _create_secret(self, request_timeout: float) -> bool:
        try:
            async with asyncio.timeout(request_timeout):
                await self.api.create_namespaced_secret(self.namespace, self._secret)
        except TimeoutError:
            return False
        except ApiException as error:
            if error.status != 409:
                raise
            # It is of an earlier try. It is deleted, not replaced: for that, the hub would need one more right.
            await self._delete_secret()
            return False

        return True

    async def _delete_secret(self) -> None:
        if self.secret_variables:
            await self._delete("secret")

    async def _delete(self, kind: str) -> None:
        """Delete the object with the pod's name, if it exists, with retries as long as KubeSpawner's."""
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

    # The end of the pod

    def _pod(self) -> dict[str, Any] | None:
        """Return the latest state of this start's pod; None for an earlier pod of that name that is being deleted."""
        if self.pod_reflector is None:
            return None
        pod: dict[str, Any] | None = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}")
        is_ours = pod and (pod["metadata"].get("annotations") or {}).get(_START) == self._start_id
        return pod if is_ours else None

    async def how_it_ended(self) -> str | None:
        """Return a sentence about the pod's end, with the last lines of its log; None while it runs or is awaited."""
        return _ending(self._pod())

    async def _wait_for_end(self) -> str:
        while not (ending := _ending(self._pod())):
            await asyncio.sleep(0.2)
        return ending

    async def stop(self, now: bool = False) -> None:
        """Delete the pod and its Secret."""
        await super().stop(now=now)
        await self._delete_secret()

    async def run_post_stop_hook(self) -> None:
        """Delete the Secret: the hub does not call `stop` for a pod that ended by itself."""
        await self._delete_secret()
        await maybe_future(super().run_post_stop_hook())

    async def delete_forever(self) -> None:
        """Delete everything of a deleted user, also objects that a killed hub has not recorded."""
        await self._delete_secret()
        await self._delete("pod")
        await maybe_future(super().delete_forever())


def _ending(pod: dict[str, Any] | None) -> str | None:
    if pod is None or pod["status"].get("phase") not in {"Failed", "Succeeded"}:
        return None

    status = pod["status"]
    states = [container["state"].get("terminated") for container in status.get("containerStatuses") or []]
    terminated = next((state for state in states if state), None)
    if terminated is None:
        return f"The pod was ended: {status.get('reason') or status['phase']}. {status.get('message') or ''}".strip()

    reason = terminated.get("reason") or ""
    if reason in {"Error", "Completed"}:
        reason = ""
    return end_sentence(terminated.get("exitCode"), reason, terminated.get("message") or "")


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"

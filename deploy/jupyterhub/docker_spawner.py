"""DockerSpawner for Binder launches: servers as containers of a Docker engine."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig
from dockerspawner import DockerSpawner
from jupyterhub.utils import maybe_future
from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import Timeout
from traitlets import Bool, Dict, Float, Integer, default
from urllib3.exceptions import HTTPError as BrokenAnswer

from deploy.jupyterhub import labels
from deploy.jupyterhub.binder_spawner import refusal
from deploy.jupyterhub.container_spawner import ContainerMixin, end_sentence
from deploy.jupyterhub.progress import ProgressMixin

_NO_ANSWER = (NoConnectionError, Timeout, BrokenAnswer)
"""Errors of the engine's client if it gets no answer, or an incomplete one."""


class BinderDockerSpawner(ProgressMixin, ContainerMixin, DockerSpawner):
    """Starts a launch's server as a container, which is removed when it ends.

    The defaults suit containers that run the code of strangers; every setting of DockerSpawner still works.
    """

    extra_create_kwargs: Any
    extra_host_config: Any
    no_new_privileges = Bool(True, config=True, help="Keep setuid programs in a server from giving privileges.")
    pids_limit = Integer(4096, config=True, help="Largest number of processes and threads of a server; 0: no limit.")
    log_config = Dict(
        {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}},
        config=True,
        help="How the engine stores a server's output; empty: the engine's default, which may be unlimited.",
    )
    stop_grace_seconds = Integer(
        1,
        config=True,
        help="How long a server may take to end by itself; whole seconds, as KubeSpawner's grace period.",
    )
    pull_told_seconds = Float(2, config=True, help="Time between two messages about the progress of a pull.")

    # DockerSpawner has one thread for all calls: one slow answer would delay every other server.
    _executor = ThreadPoolExecutor(8, "docker")

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._configured_create = self.extra_create_kwargs
        self._configured_host = self.extra_host_config

    @default("remove")
    def _removes(self) -> bool:
        return True

    @default("allowed_images")
    def _any_image(self) -> str:
        return "*"

    async def start(self) -> Any:
        """Start the container and wait until the server answers; return its address.

        Raise an `HTTPError` that names the cause of a failure: the image, the engine, or the server's end.
        """
        self.clear_progress()
        try:
            return await self._start()
        except (DockerException, *_NO_ANSWER) as error:
            raise refusal(500, f"Failed to start the container: {_message(error)}") from error

    async def _start(self) -> Any:
        try:
            ip, port = await super().start()
        except RuntimeError as error:  # it has no port, perhaps because it has ended already
            if ending := await self.how_it_ended():
                raise refusal(500, ending) from error
            raise
        self.report_progress("Container started")
        await self.wait_for_answer(f"http://{ip}:{port}")
        return ip, port

    async def pull_image(self, image: str) -> None:
        """Pull the image, by tag or by digest, unless the engine has it. Raise an `HTTPError` with the reason."""
        policy = self.pull_policy.lower()
        if policy == "skip":
            return
        if policy != "always":
            try:
                await self.docker("inspect_image", image)
            except ImageNotFound:
                if policy == "never":
                    raise refusal(400, f"image not found: {image} is not in the engine, and is not pulled") from None
            else:
                return
        self.report_progress(f"Pulling image {image}")
        loop = asyncio.get_running_loop()
        stop_requested = threading.Event()

        def report(message: str) -> None:
            loop.call_soon_threadsafe(self.report_progress, message)

        try:
            await asyncio.to_thread(self._pull, image, report, stop_requested)
        except DockerException as error:
            if _no_answer_reason(error):
                raise
            raise refusal(500, f"Failed to pull image {image}: {_message(error)}") from error
        finally:
            stop_requested.set()
        self.report_progress(f"Successfully pulled image {image}")

    def _pull(self, image: str, report: Callable[[str], object], stop_requested: threading.Event) -> None:
        layers: dict[str, str] = {}
        reported_at = time.monotonic()

        for line in self.client.pull(image, stream=True, decode=True):
            if stop_requested.is_set():
                return
            if error := line.get("error"):
                raise DockerException(error)

            if "id" in line and "progressDetail" in line:
                layers[line["id"]] = line["status"]

            if layers and time.monotonic() - reported_at > self.pull_told_seconds:
                reported_at = time.monotonic()
                done = sum(status == "Pull complete" for status in layers.values())
                report(f"Pulling image: {done} of {len(layers)} layers; {line.get('status', '')}")

    async def create_object(self) -> Any:
        """Create the container, with its labels and limits."""
        create = await self._configured(self._configured_create)
        host = await self._configured(self._configured_host)

        ours = labels.labels_of(self.user_options) | labels.annotations_of(self.user_options)
        # DockerSpawner expands braces in labels, but text of a launch must stay as it is.
        escaped = {key: value.replace("{", "{{").replace("}", "}}") for key, value in ours.items()}
        create["labels"] = escaped | create.get("labels", {})

        self.extra_create_kwargs = create
        self.extra_host_config = self._host_config() | host
        container = await super().create_object()
        self.report_progress("Container created")
        return container

    async def _configured(self, setting: Any) -> dict[str, Any]:
        """Return the value of a setting that may be a function or a coroutine function, as in DockerSpawner."""
        value = self._eval_if_callable(setting)
        return dict(await value if inspect.isawaitable(value) else value)

    def _host_config(self) -> dict[str, Any]:
        host: dict[str, Any] = {"auto_remove": False}  # we remove it: its log and exit status are read first

        if self.dropped_capabilities:
            host["cap_drop"] = list(self.dropped_capabilities)
        if self.pids_limit:
            host["pids_limit"] = self.pids_limit
        if self.log_config:
            host["log_config"] = LogConfig(**self.log_config)
        if self.no_new_privileges:
            host["security_opt"] = ["no-new-privileges"]

        if self.mem_guarantee:
            host["mem_reservation"] = self.mem_guarantee
        if self.cpu_guarantee:
            host["cpu_shares"] = max(2, int(1024 * self.cpu_guarantee))
        if self.gpus:
            host["device_requests"] = [DeviceRequest(count=self.gpus, capabilities=[["gpu"]])]

        return host

    # Its end

    async def stop_object(self) -> None:
        """Stop the container.

        The engine's own grace period would delay the hub by ten seconds if the server ignores SIGTERM.
        """
        try:
            await self.docker("stop", self.container_id, timeout=self.stop_grace_seconds)
        except NotFound:
            self.log.debug("container %s is gone already", self.container_id)

    async def how_it_ended(self) -> str | None:
        """Return a sentence about the container's end, with the last lines of its log; None while it runs."""
        try:
            container = await self.docker("inspect_container", self.container_name)
        except NotFound:
            return "The container was removed before the server answered."
        state = container["State"]
        if state["Running"]:
            return None
        log = await self.docker("logs", self.container_name, tail=20)
        reason = "OOMKilled" if state["OOMKilled"] else state["Error"]
        return end_sentence(state["ExitCode"], reason, log[-8192:].decode("utf-8", "replace"))

    async def run_post_stop_hook(self) -> None:
        """Remove the container, also of a server that ended by itself: the hub calls `stop` only for one that runs."""
        await self._remove()
        await maybe_future(super().run_post_stop_hook())

    async def delete_forever(self) -> None:
        """Remove everything of a deleted user, also containers that a killed hub has not recorded."""
        await self._remove()
        await maybe_future(super().delete_forever())

    async def _remove(self) -> None:
        if not self.remove:
            return
        try:
            await self.docker("remove_container", self.container_name, v=True, force=True)
        except APIError as error:
            if error.status_code not in {404, 409}:  # 409: it is being removed
                raise


def _message(error: BaseException) -> str:
    if reason := _no_answer_reason(error):
        return f"the engine does not answer ({reason})."
    return str(getattr(error, "explanation", None) or error)


def _no_answer_reason(error: BaseException) -> str | None:
    """Return why the engine did not answer, in the system's words; None if it did."""
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)

    if not any(isinstance(link, _NO_ANSWER) for link in chain):
        return None
    root = chain[-1]
    return str(getattr(root, "strerror", None) or root)

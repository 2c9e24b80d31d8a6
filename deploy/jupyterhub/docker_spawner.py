"""Servers as containers of a Docker engine: DockerSpawner, with what a Binder launch asks for."""

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
from deploy.jupyterhub.container_spawner import ContainerMixin, ended
from deploy.jupyterhub.progress import ProgressMixin

_SILENT = (NoConnectionError, Timeout, BrokenAnswer)
"""What the engine's client raises where it gets no answer, or half of one."""


class BinderDockerSpawner(ProgressMixin, ContainerMixin, DockerSpawner):
    """Starts a launch's server as a container, which is removed when it ends.

    Its defaults are those of containers that run strangers' code; every setting of DockerSpawner changes them as
    ever.
    """

    extra_create_kwargs: Any
    extra_host_config: Any
    no_new_privileges = Bool(True, config=True, help="Keep setuid programs in a server from giving privileges.")
    pids_limit = Integer(4096, config=True, help="Processes and threads of a server at most; 0: as many as it likes.")
    log_config = Dict(
        {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}},
        config=True,
        help="How the engine keeps what a server prints; empty for the engine's own way, which may have no bound.",
    )
    stop_grace_seconds = Integer(
        1,
        config=True,
        help="How long a server may take to end by itself; whole seconds, as KubeSpawner's grace period.",
    )
    pull_told_seconds = Float(2, config=True, help="How often the progress of a pull is told.")

    # DockerSpawner has one thread for all calls, so that one slow answer would hold up every other server.
    _executor = ThreadPoolExecutor(8, "docker")

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._given_create, self._given_host = self.extra_create_kwargs, self.extra_host_config

    @default("remove")
    def _removes(self) -> bool:
        return True

    @default("allowed_images")
    def _any_image(self) -> str:
        return "*"

    async def start(self) -> Any:
        """Start the container and wait until the server answers; return its address.

        Raises an `HTTPError` that says why it can't: the image, the engine, or how the server ended.
        """
        self.clear_progress()
        try:
            return await self._start()
        except (DockerException, *_SILENT) as error:
            raise refusal(500, f"Failed to start the container: {_words(error)}") from error

    async def _start(self) -> Any:
        try:
            ip, port = await super().start()
        except RuntimeError as error:  # it has no port: one that ended at once has lost it already
            if how := await self.how_it_ended():
                raise refusal(500, how) from error
            raise
        self.report_progress("Container started")
        await self.until_it_answers(f"http://{ip}:{port}")
        return ip, port

    async def pull_image(self, image: str) -> None:
        """Pull the image unless it is there, by tag or by digest. Raises an `HTTPError` that says why it can't."""
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
        stopped = threading.Event()

        def report(message: str) -> None:
            loop.call_soon_threadsafe(self.report_progress, message)

        try:
            await asyncio.to_thread(self._pull, image, report, stopped)
        except DockerException as error:
            if _silence(error):
                raise
            raise refusal(500, f"Failed to pull image {image}: {_words(error)}") from error
        finally:
            stopped.set()
        self.report_progress(f"Successfully pulled image {image}")

    def _pull(self, image: str, tell: Callable[[str], object], stopped: threading.Event) -> None:
        layers: dict[str, str] = {}
        told = time.monotonic()
        for line in self.client.pull(image, stream=True, decode=True):
            if stopped.is_set():
                return
            if error := line.get("error"):
                raise DockerException(error)
            if "id" in line and "progressDetail" in line:
                layers[line["id"]] = line["status"]
            if layers and time.monotonic() - told > self.pull_told_seconds:
                told = time.monotonic()
                done = sum(status == "Pull complete" for status in layers.values())
                tell(f"Pulling image: {done} of {len(layers)} layers; {line.get('status', '')}")

    async def create_object(self) -> Any:
        """Create the container, with its labels and its limits."""
        create, host = self._eval_if_callable(self._given_create), self._eval_if_callable(self._given_host)
        create = dict(await create if inspect.isawaitable(create) else create)
        host = dict(await host if inspect.isawaitable(host) else host)
        told = labels.labels_of(self.user_options) | labels.annotations_of(self.user_options)
        # DockerSpawner expands braces in all of this, and what comes from a launch is not ours to expand.
        ours = {key: value.replace("{", "{{").replace("}", "}}") for key, value in told.items()}
        create["labels"] = ours | create.get("labels", {})
        self.extra_create_kwargs = create
        self.extra_host_config = self._host_config() | host
        made = await super().create_object()
        self.report_progress("Container created")
        return made

    def _host_config(self) -> dict[str, Any]:
        host: dict[str, Any] = {"auto_remove": False}  # we remove it: its last words are in it
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
        """Stop the container. One whose server heeds no signal would keep the hub for the engine's own ten seconds."""
        try:
            await self.docker("stop", self.container_id, timeout=self.stop_grace_seconds)
        except NotFound:
            self.log.debug("container %s is gone already", self.container_id)

    async def how_it_ended(self) -> str | None:
        try:
            found = await self.docker("inspect_container", self.container_name)
        except NotFound:
            return "The container was removed before the server answered."
        state = found["State"]
        if state["Running"]:
            return None
        log = await self.docker("logs", self.container_name, tail=20)
        why = "OOMKilled" if state["OOMKilled"] else state["Error"]
        return ended(state["ExitCode"], why, log[-8192:].decode("utf-8", "replace"))

    async def run_post_stop_hook(self) -> None:
        # The hub calls `stop` only for what still runs: a server that ended by itself leaves its container.
        await self._remove()
        await maybe_future(super().run_post_stop_hook())

    async def delete_forever(self) -> None:
        """Leave nothing of a user that is deleted, also what a hub that was killed has never heard of."""
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


def _words(error: BaseException) -> str:
    if silence := _silence(error):
        return f"the engine does not answer ({silence})."
    return str(getattr(error, "explanation", None) or error)


def _silence(error: BaseException) -> str | None:
    """Return why the engine could not be asked, in the system's words; None where it has answered."""
    root, is_silent = error, False
    while True:
        is_silent = is_silent or isinstance(root, _SILENT)
        if (cause := root.__cause__ or root.__context__) is None:
            break
        root = cause
    return str(getattr(root, "strerror", None) or root) if is_silent else None

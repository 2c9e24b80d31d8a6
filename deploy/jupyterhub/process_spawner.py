"""Servers without containers: each is a process in a session of its own, started from an image folder."""

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from tornado.web import HTTPError
from traitlets import Bool, Float, Integer, Unicode

from deploy.jupyterhub import processes
from deploy.jupyterhub.activity import ServerActivityMixin, naive_now
from deploy.jupyterhub.binder_spawner import BinderSpawnerMixin, refusal
from deploy.jupyterhub.environment import server_environment
from deploy.jupyterhub.files import log_tail, write_json
from deploy.jupyterhub.image_folders import ImageFolder, ServerFolder, ServerRecord, claim
from deploy.jupyterhub.kept_token import is_answering, write_configuration
from deploy.jupyterhub.processes import Identity
from deploy.jupyterhub.progress import ProgressMixin
from deploy.jupyterhub.server_ports import server_ports

_HUB_VARIABLES = ("JUPYTERHUB_BASE_URL", "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_USER", "JUPYTERHUB_SERVER_NAME")
"""Variables of the hub that servers get: repositories build URLs from them. None contains a token."""

IMAGE_NOT_FOUND = "image not found"
"""Beginning of the message for a missing image; the launcher then has the image rebuilt."""

OVERLAYS_REFUSED = 71
"""Exit status of an image that needs overlays where the system refuses them (`image_runtime/serving.py`)."""

_PORT_TAKEN = re.compile(r"port [0-9]+ is (already in use|not available)", re.IGNORECASE)
"""Message of a Jupyter Server whose port was taken between its choice and its use."""


class ProcessImageSpawner(ProgressMixin, ServerActivityMixin, BinderSpawnerMixin, Spawner):
    """Starts a server from `<data>/images/<build id>/`; what it changes, it changes for itself.

    Nothing is isolated: the server runs as the hub's own user. The spawner is meant for one's own machine.
    """

    has_notebook_app_args = False
    image = Unicode(help="The image of the launch.")
    data_dir = Unicode(config=True, help="The installation's data folder.")
    uses_overlays = Bool(True, config=True, help="Whether images that need overlay mounts are run.")
    answer_timeout_seconds = Float(60, config=True, help="How long a server may take from its start to its answer.")
    port_tries = Integer(
        3,
        min=1,
        config=True,
        help="Number of times that a server is started at most, if another process takes its port first.",
    )
    term_timeout_seconds = Float(8, config=True, help="How long a server may take to stop before it is killed.")

    _image_folder: ImageFolder | None = None
    _popen: subprocess.Popen[bytes] | None = None
    _process: Identity | None = None
    _is_starting = False

    @property
    def folder(self) -> ServerFolder:
        """Folder of this server."""
        return ServerFolder(Path(self.data_dir).absolute(), f"{self.user.name}/{self.name}")

    @property
    def _records(self) -> Path:
        return Path(self.data_dir).absolute() / "run" / "processes"

    @property
    def activity_url(self) -> str:
        """URL at which the server is asked.

        It has this spawner's port: a restarted hub asks before its database has the port.
        """
        return self._url_at(self.port)

    def _url_at(self, port: int) -> str:
        return f"http://127.0.0.1:{port}{quote(self.server.base_url, safe='/@~%')}"

    async def get_url(self) -> str:
        """Return the URL of the server for the proxy."""
        return f"http://127.0.0.1:{self.port}{self.server.base_url}"

    # State for a hub that restarts

    def get_state(self) -> dict[str, object]:
        """Return the state of this server that the hub saves: its process and its port."""
        state = super().get_state()
        if self._process:
            state |= {"pid": self._process.pid, "start_time": self._process.start_time, "port": self.port}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Find the server of a hub that restarted; if that had not saved the state, by the server's record."""
        super().load_state(state)
        if state.get("pid"):
            self._process = Identity(int(state["pid"]), str(state["start_time"]))
            self.port = int(state["port"])
        record = self.folder.record()
        if not self.port and record and record.port is not None and record.process.is_alive:
            self._process = record.process
            self.port = record.port

    def clear_state(self) -> None:
        """Drop the state of a server that has ended."""
        super().clear_state()
        self._process = None
        self._popen = None
        self.port = 0

    # Start

    async def start(self) -> str:
        """Start the server and wait until it answers; return its URL.

        Raise an `HTTPError` with the last lines of the server's log if it ends or doesn't answer.
        """
        self.clear_progress()
        self._is_starting = True

        try:
            self.apply_binder_options()
            async with asyncio.timeout(self.answer_timeout_seconds):
                return await self._start()
        except BaseException as error:
            tail = log_tail(self.folder.log)
            if self._process:
                processes.kill(self._process)
            await self._end()
            if isinstance(error, TimeoutError):
                message = f"The server did not answer within {self.answer_timeout_seconds:g} seconds"
                raise refusal(504, _with_log(message, tail)) from None
            raise
        finally:
            self._is_starting = False

    async def _start(self) -> str:
        folder = self.folder
        await self._end()  # a hub that was killed during a start leaves its processes
        data_dir = Path(self.data_dir).absolute()
        image = await asyncio.to_thread(claim, data_dir, self.image, folder, has_overlays=self.uses_overlays)
        if image is None:
            raise refusal(400, f"{IMAGE_NOT_FOUND}: there is no image {self.image} here")
        if image.program is None:
            raise refusal(500, "Neither JupyterLab nor Notebook is installed in the image")

        await asyncio.to_thread(folder.make)
        write_configuration(folder.configuration)

        self.report_progress(f"Starting {image.program}")
        self._popen = self._run(image, folder)
        self.report_progress("Waiting for Jupyter to answer")
        for tries_left in reversed(range(self.port_tries)):
            if await self._wait_for_answer(folder):
                break
            status = self._popen.poll()
            if status == OVERLAYS_REFUSED and image.is_layered:
                raise refusal(400, f"{IMAGE_NOT_FOUND}: {log_tail(folder.log)}")
            message = f"The server ended with exit status {status} before it answered"
            tail = log_tail(folder.log)
            if not tries_left or not _PORT_TAKEN.search(tail):
                raise refusal(500, _with_log(message, tail))

            await self._end_processes()
            folder.log.write_bytes(b"")
            self._popen = self._run(image, folder)
        self.report_progress("Jupyter answers")
        return f"http://127.0.0.1:{self.port}"

    def _run(self, image: ImageFolder, folder: ServerFolder) -> subprocess.Popen[bytes]:
        self.port = 0  # the system chooses it, so that no other process can take it first
        self._image_folder = image
        # The image knows how it is run: where its environment and its repository are for this server, and what starts.
        command = [sys.executable, "-Es", "-m", "image_runtime", str(folder.path), *self.get_args()]

        with folder.log.open("ab") as log:
            popen = subprocess.Popen(
                command,
                cwd=image.path,
                env=self.get_env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        self._process = processes.identify(popen.pid)
        if self._process:
            pid = self._process.pid
            started = self._process.start_time
            folder.write_record(
                ServerRecord(
                    pid=pid,
                    start_time=started,
                    port=self.port,
                    build_id=image.build_id,
                    image=self.image,
                    server=folder.server,
                )
            )
            write_json(
                self._records / f"{popen.pid}.json",
                {"pid": pid, "start_time": started, "what": f"server {folder.server}"},
            )

        return popen

    async def _wait_for_answer(self, folder: ServerFolder) -> bool:
        """Wait until the server answers. Return False if it has ended before."""
        while not await self._find_port(folder):
            if self._popen is None or self._popen.poll() is not None:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _find_port(self, folder: ServerFolder) -> bool:
        """Set `self.port` to a port of the server's own at which it answers. Return whether there is one.

        Raise an `HTTPError` if the server does not keep its token.
        """
        for port in await self._own_ports(folder):
            if not await is_answering(self._url_at(port), self.own_token):
                continue
            self.port = port
            if record := folder.record():
                folder.write_record(replace(record, port=port))
            return True
        return False

    async def _own_ports(self, folder: ServerFolder) -> list[int]:
        if self._process is None:
            return []
        return await asyncio.to_thread(server_ports, self._process, str(folder.path), folder.runtime)

    async def _last_used(self) -> datetime:
        # A request shows the token, so it must not go to another process that listens at this port.
        if self.port not in await self._own_ports(self.folder):
            raise ConnectionError("it no longer listens at its port")
        return await super()._last_used()

    def get_env(self) -> dict[str, str]:
        """Return the whole environment of the server: only named variables, so that no secret of the hub is in it."""
        if self._image_folder is None:
            return {}
        env = server_environment(os.environ, hub_prefix=sys.prefix) | {processes.RUN_VARIABLE: str(self.folder.path)}
        hub_env = super().get_env()
        env |= {name: hub_env[name] for name in _HUB_VARIABLES if hub_env.get(name)}
        for name, value in self.environment.items():
            env[name] = value(self) if callable(value) else value
        if not self.auth_enabled:
            env["JUPYTER_CONFIG_PATH"] = str(self.folder.configuration)
        return env | self.binder_env() | {"JUPYTER_RUNTIME_DIR": str(self.folder.runtime)}

    def get_args(self) -> list[str]:
        """Return the arguments of the server."""
        ours = [
            "--ServerApp.port_retries=0",
            "--ServerApp.open_browser=False",
            # JupyterLab would ask about news and look for updates; a server that lives for an hour needs neither.
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        if os.geteuid() == 0:
            ours.append("--ServerApp.allow_root=True")
        return super().get_args() + ours

    # Polling and stopping

    async def poll(self) -> int | None:
        """Return None while the server runs or starts, else its exit status, or 0 if that is unknown."""
        if self._is_starting:
            return None
        if self._popen is not None:
            return self._popen.poll()
        if self._process is None or not self._process.is_alive:
            return 0
        if not self.port and not await self._recover():
            return 0

        if self._check_pending:
            # The hub has just started: its record of the server's last use is old, and the culler relies on it.
            await self.record_activity(if_unknown=naive_now())

        return None

    async def _recover(self) -> bool:
        """Wait for a server whose hub was killed before it answered; end it if it does not answer in time."""
        process = self._process
        folder = self.folder
        try:
            async with asyncio.timeout(self.answer_timeout_seconds):
                while process and process.is_alive:
                    if await self._find_port(folder):
                        return True
                    await asyncio.sleep(0.05)
        except (TimeoutError, HTTPError) as error:
            self.log.warning("%s is ended: %s", self._log_name, getattr(error, "jupyterhub_message", "no answer"))

        await self._end()
        return False

    async def stop(self, now: bool = False) -> None:
        """End the server and everything it started, and remove its folder."""
        if now and self._process:
            processes.kill(self._process)
        await self._end()

    async def run_post_stop_hook(self) -> None:
        """End kernels and remove files that a server left that ended by itself, for which the hub calls no `stop`."""
        await self._end()
        await maybe_future(super().run_post_stop_hook())

    async def _end(self) -> None:
        await self._end_processes()
        await asyncio.to_thread(self.folder.remove)

    async def _end_processes(self) -> None:
        folder = self.folder
        process = self._process
        if (record := folder.record()) and record.port is not None:
            process = process or record.process

        try:
            await processes.end(process, str(folder.path), term_seconds=self.term_timeout_seconds)
        except TimeoutError:
            self.log.error("Some processes of %s could not be killed", self._log_name)

        if self._popen is not None:
            self._popen.poll()  # reaps the process
        if process:
            (self._records / f"{process.pid}.json").unlink(missing_ok=True)


def _with_log(message: str, tail: str) -> str:
    return f"{message}. The last lines of its log:\n{tail}" if tail else f"{message}. Its log is empty."

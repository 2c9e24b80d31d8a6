"""Servers without containers: a process of the user's own session, started from an image folder."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from tornado.web import HTTPError
from traitlets import Float, Integer, Unicode

from deploy.jupyterhub import processes
from deploy.jupyterhub.activity import ServerActivityMixin, naive_now
from deploy.jupyterhub.binder_spawner import BinderSpawnerMixin, refusal
from deploy.jupyterhub.environment import server_environment
from deploy.jupyterhub.image_folders import ImageFolder, ServerFolder, ServerRecord, claim
from deploy.jupyterhub.kept_token import answers, write_configuration
from deploy.jupyterhub.processes import Identity
from deploy.jupyterhub.progress import ProgressMixin
from deploy.jupyterhub.server_ports import server_ports

_TOLD_BY_HUB = ("JUPYTERHUB_BASE_URL", "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_USER", "JUPYTERHUB_SERVER_NAME")
"""Of what a hub tells its servers: where they are, which repositories build addresses from. No token is in it."""

IMAGE_NOT_FOUND = "image not found"
"""Begins the message of a start whose image is gone; the launcher then has it built anew."""

_PORT_TAKEN = re.compile(r"port [0-9]+ is (already in use|not available)", re.IGNORECASE)
"""What a Jupyter Server says that lost its port between choosing and taking it."""


class ProcessImageSpawner(ProgressMixin, ServerActivityMixin, BinderSpawnerMixin, Spawner):
    """Starts a server from `<data>/images/<build id>/`, in a copy of its repository, as a session of its own.

    It isolates nothing: the server runs as the hub's own user. It is meant for one's own machine.
    """

    has_notebook_app_args = False
    image = Unicode(help="The image of the launch.")
    data_dir = Unicode(config=True, help="The installation's data folder.")
    answer_timeout_seconds = Float(60, config=True, help="How long a server may take from its start to its answer.")
    port_tries = Integer(
        3, min=1, config=True, help="How often a server is started at most whose port another process took first."
    )
    term_timeout_seconds = Float(8, config=True, help="How long a server may take to stop before it is killed.")

    _image_folder: ImageFolder | None = None
    _popen: subprocess.Popen[bytes] | None = None
    _process: Identity | None = None
    _is_starting = False

    @property
    def folder(self) -> ServerFolder:
        return ServerFolder(Path(self.data_dir).absolute(), f"{self.user.name}/{self.name}")

    @property
    def _records(self) -> Path:
        return Path(self.data_dir).absolute() / "run" / "processes"

    @property
    def activity_url(self) -> str:
        # By our own port: a hub that restarted has not written it to its database yet when it asks.
        return f"http://127.0.0.1:{self.port}{quote(self.server.base_url, safe='/@~%')}"

    async def get_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.server.base_url}"

    # What a hub that restarts needs to know

    def get_state(self) -> dict[str, object]:
        state = super().get_state()
        if self._process:
            state |= {"pid": self._process.pid, "start_time": self._process.start_time, "port": self.port}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Find the server again, also one whose hub died before it saved its state: then by the server's record."""
        super().load_state(state)
        if state.get("pid"):
            self._process = Identity(int(state["pid"]), str(state["start_time"]))
            self.port = int(state["port"])
        record = self.folder.record()
        if not self.port and record and record.port is not None and record.process.is_alive:
            self._process, self.port = record.process, record.port

    def clear_state(self) -> None:
        super().clear_state()
        self._process = self._popen = None
        self.port = 0

    # Start

    async def start(self) -> str:
        """Start the server and wait until it answers; return its URL.

        Raises an `HTTPError` whose message holds the last lines of the server's log if it ends or doesn't answer.
        """
        self.clear_progress()
        self._is_starting = True
        try:
            self.apply_binder_options()
            async with asyncio.timeout(self.answer_timeout_seconds):
                return await self._start()
        except BaseException as error:
            tail = processes.log_tail(self.folder.log)
            if self._process:
                processes.kill(self._process)
            await self._end()
            if isinstance(error, TimeoutError):
                took = f"did not answer within {self.answer_timeout_seconds:g} seconds"
                raise refusal(504, _with_log(f"The server {took}", tail)) from None
            raise
        finally:
            self._is_starting = False

    async def _start(self) -> str:
        folder = self.folder
        await self._end()  # of an earlier hub that was killed in mid-start
        image = await asyncio.to_thread(claim, Path(self.data_dir).absolute(), self.image, folder)
        if image is None:
            raise refusal(400, f"{IMAGE_NOT_FOUND}: there is no image {self.image} here")
        if image.jupyter is None:
            raise refusal(500, "Neither JupyterLab nor Notebook is installed in the image")
        self.report_progress("Copying the repository")
        await _in_thread(folder.fill_from, image)
        write_configuration(folder.configuration)
        self.report_progress(f"Starting {image.jupyter.name}")
        self._popen = self._run(image, image.jupyter, folder)
        self.report_progress("Waiting for Jupyter to answer")
        for tries_left in reversed(range(self.port_tries)):
            if await self._answers_at_last(folder):
                break
            message = f"The server ended with exit status {self._popen.poll()} before it answered"
            tail = processes.log_tail(folder.log)
            if not tries_left or not _PORT_TAKEN.search(tail):
                raise refusal(500, _with_log(message, tail))
            await self._end_processes()
            folder.log.write_bytes(b"")
            self._popen = self._run(image, image.jupyter, folder)
        self.report_progress("Jupyter answers")
        return f"http://127.0.0.1:{self.port}"

    def _run(self, image: ImageFolder, jupyter: Path, folder: ServerFolder) -> subprocess.Popen[bytes]:
        self.port = 0  # the system chooses it, so that nobody can take it first
        self._image_folder = image
        command = [str(jupyter), *self.get_args()]
        if image.start:
            command = [str(folder.work / image.start), *command]
        with folder.log.open("ab") as log:
            popen = subprocess.Popen(
                command,
                cwd=folder.work,
                env=self.get_env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = processes.identify(popen.pid)
        if self._process:
            pid, started = self._process.pid, self._process.start_time
            folder.write_record(ServerRecord(pid, started, self.port, image.build_id, self.image, folder.server))
            processes.write_json(
                self._records / f"{popen.pid}.json",
                {"pid": pid, "start_time": started, "what": f"server {folder.server}"},
            )
        return popen

    async def _answers_at_last(self, folder: ServerFolder) -> bool:
        """Wait until the server answers; False when it has ended before."""
        while not await self._is_found(folder):
            if self._popen is None or self._popen.poll() is not None:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _is_found(self, folder: ServerFolder) -> bool:
        """Whether the server answers at a port of its own, which `self.port` is from then on.

        Raises an `HTTPError` where it does not keep its token.
        """
        for port in await self._own_ports(folder):
            url = f"http://127.0.0.1:{port}{quote(self.server.base_url, safe='/@~%')}"
            if not await answers(url, self.own_token):
                continue
            self.port = port
            if record := folder.record():
                folder.write_record(replace(record, port=port))
            return True
        return False

    async def _own_ports(self, folder: ServerFolder) -> list[int]:
        if self._process is None:
            return []
        return await asyncio.to_thread(server_ports, self._process, folder.home, folder.runtime)

    async def _last_used(self) -> datetime:
        # To ask it is to show it its token.
        if self.port not in await self._own_ports(self.folder):
            raise ConnectionError("it no longer listens at its port")
        return await super()._last_used()

    def get_env(self) -> dict[str, str]:
        """Return the whole environment of the server: an allow list, so that nothing of the hub's leaks into it."""
        if self._image_folder is None:
            return {}
        env = server_environment(os.environ, self._image_folder.path / "env", self.folder.home, hub_prefix=sys.prefix)
        of_hub = super().get_env()
        env |= {name: of_hub[name] for name in _TOLD_BY_HUB if of_hub.get(name)}
        for name, value in self.environment.items():
            env[name] = value(self) if callable(value) else value
        if not self.auth_enabled:
            env["JUPYTER_CONFIG_PATH"] = str(self.folder.configuration)
        return env | self.binder_env() | {"JUPYTER_RUNTIME_DIR": str(self.folder.runtime)}

    def get_args(self) -> list[str]:
        ours = [
            "--ServerApp.port_retries=0",
            "--ServerApp.open_browser=False",
            f"--ServerApp.root_dir={self.folder.work}",
            # Lab would ask the user about news of Jupyter and look for updates: a server of an hour needs neither.
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        if os.geteuid() == 0:
            ours.append("--ServerApp.allow_root=True")
        return super().get_args() + ours

    # Life and end

    async def poll(self) -> int | None:
        """Return None while the server runs or is being started, else its exit status, or 0 if that is not known."""
        if self._is_starting:
            return None
        if self._popen is not None:
            return self._popen.poll()
        if self._process is None or not self._process.is_alive:
            return 0
        if not self.port and not await self._found_again():
            return 0
        if self._check_pending:
            # The hub was away: what it last knew of the server's use is old, and the culler would believe it.
            await self.record_activity(if_unknown=naive_now())
        return None

    async def _found_again(self) -> bool:
        """Wait for a server whose hub was killed before it answered; one that does not in time is ended."""
        process, folder = self._process, self.folder
        try:
            async with asyncio.timeout(self.answer_timeout_seconds):
                while process and process.is_alive:
                    if await self._is_found(folder):
                        return True
                    await asyncio.sleep(0.05)
        except (TimeoutError, HTTPError) as error:
            self.log.warning("%s is ended: %s", self._log_name, getattr(error, "jupyterhub_message", "no answer"))
        await self._end()
        return False

    async def stop(self, now: bool = False) -> None:
        """End the server with all it started, and remove its folder."""
        if now and self._process:
            processes.kill(self._process)
        await self._end()

    async def run_post_stop_hook(self) -> None:
        # The hub calls `stop` only for what still runs; a server that ended by itself leaves kernels and files too.
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
            await processes.end(process, folder.home, term_seconds=self.term_timeout_seconds)
        except TimeoutError:
            self.log.error("Some processes of %s could not be killed", self._log_name)
        if self._popen is not None:
            self._popen.poll()  # reaps it
        if process:
            (self._records / f"{process.pid}.json").unlink(missing_ok=True)


async def _in_thread(copy: Callable[[ImageFolder, threading.Event], None], image: ImageFolder) -> None:
    stopped = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(copy, image, stopped))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        stopped.set()  # else the thread would go on writing into a folder that is being removed
        await asyncio.wait([work])
        raise


def _with_log(message: str, tail: str) -> str:
    return f"{message}. The last lines of its log:\n{tail}" if tail else f"{message}. Its log is empty."

"""The container that a build runs in: its name, its specification, and the files that are put into it."""

import io
import re
import shlex
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.builder.executors.base import Attempt
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.repo2docker import PROGRAM, Environment, arguments

FOLDER = "/bindery"
EPOCH = f"{FOLDER}/epoch"
INSTALLATION = "bindery.installation"
EXECUTION = "bindery.execution"
IMAGE_KEY = "bindery.image-key"
RUN = "bindery.run"
EPOCH_LABEL = "bindery.epoch"

FIRST = b'{"phase": "fetching", "message": "Starting repo2docker ...\\n"}'
"""The first line of every log: where another comes first, the engine has rotated the log."""

_CONFIG = f"{FOLDER}/repo2docker_config.py"
_SECRETS = f"{FOLDER}/secrets"
_SOCKET = "/var/run/docker.sock"
_SCRIPT = f"""exec 2>&1
[ ! -f {_SECRETS} ] || . {_SECRETS}
printf '%s\\n' '{FIRST.decode()}'
exec {PROGRAM} "$@"
"""
_NAME = re.compile(r"bindery-(.+-[0-9]+?)(?:-r[0-9]+)?")


def container_name(attempt: Attempt) -> str:
    """What the container of an attempt's run is called."""
    return f"bindery-{attempt.name}"


@dataclass(frozen=True)
class State:
    """What the engine says of a container."""

    id: str
    build_id: str
    status: str
    """created, running, paused, restarting, removing, exited or dead."""
    exit_code: int
    is_out_of_memory: bool
    error: str
    epoch: int
    """The claim that made it; a higher one may have been put into it since."""

    @property
    def is_ended(self) -> bool:
        return self.status in {"exited", "dead"}

    @property
    def is_alive(self) -> bool:
        return self.status in {"running", "paused", "restarting"}

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "State":
        """Of what `GET /containers/<name>/json` answers."""
        state, labels = raw["State"], raw["Config"].get("Labels") or {}
        return cls(
            id=raw["Id"][:12],
            build_id=labels.get(EXECUTION, ""),
            status=state["Status"],
            exit_code=int(state.get("ExitCode", 0)),
            is_out_of_memory=bool(state.get("OOMKilled")),
            error=state.get("Error") or "",
            epoch=_number(labels.get(EPOCH_LABEL)),
        )

    @classmethod
    def listed(cls, raw: dict[str, Any]) -> "State | None":
        """Of an entry of `GET /containers/json`; None for one that is not called as ours are.

        Labels alone prove nothing: a server's container has those that the author of its image gave it.
        """
        labels = raw.get("Labels") or {}
        build_id = labels.get(EXECUTION, "")
        names = [found[1] for name in raw.get("Names") or [] if (found := _NAME.fullmatch(name.lstrip("/")))]
        if build_id not in names:
            return None
        return cls(raw["Id"][:12], build_id, raw["State"], 0, False, "", _number(labels.get(EPOCH_LABEL)))


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def specification(attempt: Attempt, settings: DockerSettings, environment: Environment) -> dict[str, Any]:
    """The body of `POST /containers/create`: no secret stands in it. It is never restarted by the engine."""
    host = settings.docker_build_host or settings.docker_host
    is_socket = host.startswith("unix://")
    mounts = [{"Type": "bind", "Source": host.removeprefix("unix://"), "Target": _SOCKET}] if is_socket else []
    reached = f"unix://{_SOCKET}" if is_socket else host
    variables = {"DOCKER_CONFIG": f"{FOLDER}/docker", "DOCKER_HOST": reached} | environment.plain
    labels = {
        INSTALLATION: settings.installation_id,
        EXECUTION: attempt.build_id,
        IMAGE_KEY: attempt.image_key,
        RUN: str(attempt.run),
        EPOCH_LABEL: str(attempt.epoch),
    }
    return {
        "Image": settings.builder_image,
        "Entrypoint": ["sh", "-c", _SCRIPT, PROGRAM],
        "Cmd": arguments(attempt, settings, config_path=_CONFIG),
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": labels,
        "Tty": False,
        "StopTimeout": 1,  # repo2docker does not end by SIGTERM: an engine that stops would wait for nothing
        "HostConfig": {
            "Mounts": mounts,
            "NetworkMode": settings.docker_network,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": str(settings.docker_log_max_bytes), "max-file": "2"},
            },
            "Memory": settings.memory_bytes,
            "MemorySwap": settings.memory_bytes,
            "NanoCpus": round(settings.build_cpu_limit * 10**9),
            "SecurityOpt": ["no-new-privileges"],
        },
    }


def files(epoch: int, config: str, environment: Environment, docker_config: str) -> bytes:
    """A tar of what the container is given beside its command line; unpacked at `/`."""
    secrets = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.secret.items())
    return _tar(
        {
            _CONFIG: (config, 0o644),
            _SECRETS: (secrets, 0o600),
            f"{FOLDER}/docker/config.json": (docker_config, 0o600),
            EPOCH: (str(epoch), 0o644),
        }
    )


def epoch_file(epoch: int) -> bytes:
    """A tar of the claim's epoch alone."""
    return _tar({EPOCH: (str(epoch), 0o644)})


def epoch_in(archive: bytes) -> int:
    """The epoch in the tar that `GET /containers/<name>/archive` answers with."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(Path(EPOCH).name)
        return _number(file.read().decode() if file else None)


def _tar(contents: dict[str, tuple[str, int]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for folder in sorted({str(Path(path).parent) for path in contents}):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, (text, mode) in contents.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()

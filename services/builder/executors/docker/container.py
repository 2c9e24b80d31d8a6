"""The container of a build: its name, its specification, its state, and the files that are copied into it."""

import io
import re
import shlex
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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

FIRST_LINE = b'{"phase": "fetching", "message": "Starting repo2docker ...\\n"}'
"""The first line of every log: if another one comes first, the engine has rotated the log."""

_CONFIG = f"{FOLDER}/repo2docker_config.py"
_SECRETS = f"{FOLDER}/secrets"
_SOCKET = "/var/run/docker.sock"
_SCRIPT = f"""exec 2>&1
[ ! -f {_SECRETS} ] || . {_SECRETS}
printf '%s\\n' '{FIRST_LINE.decode()}'
exec {PROGRAM} "$@"
"""
_NAME = re.compile(r"bindery-(.+-[0-9]+?)(?:-r[0-9]+)?")


def container_name(attempt: Attempt) -> str:
    """Return the name of the container of an attempt's run."""
    return f"bindery-{attempt.name}"


@dataclass(frozen=True, kw_only=True)
class ContainerState:
    """A container as the engine describes it."""

    id: str
    build_id: str
    status: str
    """One of created, running, paused, restarting, removing, exited, dead."""
    exit_code: int
    is_out_of_memory: bool
    error: str
    epoch: int
    """The claim that created it; a higher one may have been copied into it since."""

    @property
    def is_ended(self) -> bool:
        """Whether its program has ended."""
        return self.status in {"exited", "dead"}

    @property
    def is_alive(self) -> bool:
        """Whether its program runs, or is to run again."""
        return self.status in {"running", "paused", "restarting"}

    @classmethod
    def inspected(cls, raw: dict[str, Any]) -> Self:
        """Parse the reply to `GET /containers/<name>/json`."""
        state = raw["State"]
        labels = raw["Config"].get("Labels") or {}
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
    def listed(cls, raw: dict[str, Any]) -> Self | None:
        """Parse an entry of `GET /containers/json`; return None for a container without a name of ours.

        Labels alone prove nothing: a server's container has those that the author of its image chose.
        """
        labels = raw.get("Labels") or {}
        build_id = labels.get(EXECUTION, "")
        matches = [_NAME.fullmatch(name.lstrip("/")) for name in raw.get("Names") or []]
        if build_id not in {match[1] for match in matches if match}:
            return None

        return cls(
            id=raw["Id"][:12],
            build_id=build_id,
            status=raw["State"],
            exit_code=0,
            is_out_of_memory=False,
            error="",
            epoch=_number(labels.get(EPOCH_LABEL)),
        )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def specification(attempt: Attempt, settings: DockerSettings, environment: Environment) -> dict[str, Any]:
    """Return the body of `POST /containers/create`, without any secret. The engine never restarts the container."""
    docker_host = settings.docker_build_host or settings.docker_host
    mounts = []
    if docker_host.startswith("unix://"):
        mounts.append({"Type": "bind", "Source": docker_host.removeprefix("unix://"), "Target": _SOCKET})
        docker_host = f"unix://{_SOCKET}"

    user, rights, home = _user(settings)
    variables = {"DOCKER_CONFIG": f"{FOLDER}/docker", "DOCKER_HOST": docker_host} | home | environment.plain
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
        "StopTimeout": 1,  # repo2docker ignores SIGTERM: an engine that shuts down would wait in vain
        **user,
        "HostConfig": {
            **rights,
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


def _user(settings: DockerSettings) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Return the parts of a specification for a user of its own: of the container, of its host, of its environment."""
    if not settings.docker_build_user:
        return {}, {}, {}
    if settings.build_owner == (0, 0):
        return {"User": settings.docker_build_user}, {}, {}

    rights: dict[str, Any] = {"CapDrop": ["ALL"]}
    if settings.docker_build_group is not None:
        rights["GroupAdd"] = [str(settings.docker_build_group)]
    # Root's home, the working directory of some images, is closed to others.
    return {"User": settings.docker_build_user, "WorkingDir": "/tmp"}, rights, {"HOME": "/tmp"}  # noqa: S108


def input_files(
    *, epoch: int, config: str, environment: Environment, docker_config: str, owner: tuple[int, int]
) -> bytes:
    """Return a tar of the container's input files, to be unpacked at `/`; `owner` is a user and a group."""
    secrets = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.secret.items())
    return _tar(
        {
            _CONFIG: (config, 0o644),
            _SECRETS: (secrets, 0o600),
            f"{FOLDER}/docker/config.json": (docker_config, 0o600),
            EPOCH: (str(epoch), 0o644),
        },
        owner,
    )


def epoch_file(epoch: int) -> bytes:
    """Return a tar of the file with the claim's epoch, alone."""
    return _tar({EPOCH: (str(epoch), 0o644)}, (0, 0))


def read_epoch(archive: bytes) -> int:
    """Return the epoch in the tar that `GET /containers/<name>/archive` answers with."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(Path(EPOCH).name)
        return _number(file.read().decode() if file else None)


def _tar(contents: dict[str, tuple[str, int]], owner: tuple[int, int]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in sorted({str(Path(path).parent) for path in contents}):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o755
            entry.uid, entry.gid = owner
            tar.addfile(entry)

        for path, (text, mode) in contents.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            content = text.encode()
            entry.size = len(content)
            entry.mode = mode
            entry.uid, entry.gid = owner
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()

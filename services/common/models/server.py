"""`Server`: a Jupyter server of a launch."""

import hashlib
from typing import NewType

from services.common.models.base import RECORD_VERSION, Contract, OpenEnum, Queue
from services.common.models.problem import Problem
from services.common.models.repo import ResolvedRepo

ServerId = NewType("ServerId", str)


class ServerState(OpenEnum):
    """waiting → starting → ready → stopping → gone | failed."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    GONE = "gone"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the state never changes again."""
        return self in {ServerState.GONE, ServerState.FAILED}


class ServerRequest(Contract):
    """The body of `POST /servers`: which image to start, and for which launch.

    `attempt` distinguishes the second start of a launch, after its image was built again, from the first.
    `resource_class` is the one that the launch itself requests. By `launch_id`, which is a secret, the launcher reads
    the launch's record, in case that ends without stopping the server.
    """

    launch_ref: str
    launch_id: str = ""
    attempt: int = 0
    repo: ResolvedRepo
    image: str
    digest: str | None = None
    resource_class: str | None = None
    launch_host: str = ""
    client_ip: str = ""


class Server(Contract):
    """A Jupyter server on a hub. `url` ends with a slash; `token` is the notebook server's own, never a hub token.

    Times are Unix seconds. `expires` is the latest time at which the hub's limits stop it, and `idle_timeout_seconds`
    is how long it may be unused before they do. Null if unknown.
    """

    v: int = RECORD_VERSION
    server_id: ServerId
    hub_id: str
    user: str
    server_name: str
    launch_ref: str
    state: ServerState
    image: str
    repo_url: str
    url: str | None = None
    token: str | None = None
    queue: Queue | None = None
    error: Problem | None = None
    created_at: float
    ready_at: float | None = None
    expires: float | None = None
    idle_timeout_seconds: float | None = None

    @staticmethod
    def identity(hub_id: str, user: str, server_name: str) -> ServerId:
        """Return 24 hex digits of the sha256 of hub, user and server name."""
        return ServerId(hashlib.sha256(f"{hub_id}\0{user}\0{server_name}".encode()).hexdigest()[:24])

"""`Launch`: one click."""

from typing import NewType

from pydantic import Field

from services.common.models.base import RECORD_VERSION, Contract, OpenEnum, Queue
from services.common.models.problem import Problem
from services.common.models.repo import ResolvedRepo, Visibility
from services.common.models.spec import Spec

LaunchId = NewType("LaunchId", str)
"""Time-ordered, with 128 random bits; a holder of the id of an anonymous launch may see that launch."""


class LaunchState(OpenEnum):
    """resolving → building → waiting → launching → ready | failed | cancelled."""

    RESOLVING = "resolving"
    BUILDING = "building"
    WAITING = "waiting"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the state never changes again."""
        return self in {LaunchState.READY, LaunchState.FAILED, LaunchState.CANCELLED}


class LaunchOptions(Contract):
    """The user's choices. `path` is opened in the server; a `detached` launch goes on with nobody watching.

    `build_only` requests no server: pre-launch hooks see such a launch, and it has no record.
    """

    path: str = Field("", max_length=4096)
    resource_class: str | None = Field(None, max_length=64)
    detached: bool = False
    rebuild: str | None = Field(None, max_length=64, description="The failed attempt to build again")
    build_only: bool = False


class Launch(Contract):
    """One click, from link to running server. Times are Unix seconds."""

    v: int = RECORD_VERSION
    launch_id: LaunchId
    launch_ref: str
    spec: Spec
    principal: str
    options: LaunchOptions = LaunchOptions()
    state: LaunchState
    repo: ResolvedRepo | None = None
    image: str | None = None
    digest: str | None = None
    build_id: str | None = None
    server_id: str | None = None
    queue: Queue | None = None
    error: Problem | None = None
    created_at: float
    finished_at: float | None = None
    client_ip: str = ""
    credential_id: str | None = Field(None, description="Id of the credential that its repository is fetched with.")
    launch_host: str = ""
    rebuilt: bool = Field(False, description="It went back from launching to building: once is all it gets.")

    @property
    def log_path(self) -> str | None:
        """Path of its build's log: of a private repository only by the launch, whose id is known to few; None yet."""
        if not self.build_id:
            return None
        is_public = self.repo is None or self.repo.visibility is Visibility.PUBLIC
        return f"/api/v1/builds/{self.build_id}/log" if is_public else f"/api/v1/launches/{self.launch_id}/log"

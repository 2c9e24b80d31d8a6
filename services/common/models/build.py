"""`Build`: one attempt at one image."""

import hashlib
from typing import NewType

from pydantic import Field

from services.common.models.base import RECORD_VERSION, Contract, OpenEnum, Queue
from services.common.models.problem import Problem
from services.common.models.repo import ResolvedRepo

BuildId = NewType("BuildId", str)
"""`<24 hex of sha256(image)>-<attempt>`."""


def image_key(image: str) -> str:
    """Return 24 hex digits of the image name's sha256, by which its keys, attempts and folders are named."""
    return hashlib.sha256(image.encode()).hexdigest()[:24]


class BuildState(OpenEnum):
    """queued → running → pushing → built | failed | cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    PUSHING = "pushing"
    BUILT = "built"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the state never changes again."""
        return self in {BuildState.BUILT, BuildState.FAILED, BuildState.CANCELLED}


class BuildInput(Contract):
    """The input that an image is built from and named after. Today `build_ref` is the repository's ref."""

    repo_url: str
    build_ref: str
    slug: str

    @classmethod
    def of(cls, repo: ResolvedRepo) -> "BuildInput":
        """Return the input of a repository's image."""
        return cls(repo_url=repo.repo_url, build_ref=repo.ref, slug=repo.slug)

    @property
    def fingerprint(self) -> str:
        """24 hex digits that identify this input, under which the cache stores that its image exists."""
        return hashlib.sha256(f"{self.repo_url}\0{self.build_ref}\0{self.slug}".encode()).hexdigest()[:24]


class BuildRequest(Contract):
    """The body of `POST /builds`: what to build, for which launch, and which failed attempt it replaces.

    A build without a launch is requested for itself; `asker` is the id of its requester, who may cancel it.
    """

    repo: ResolvedRepo
    launch_ref: str | None = None
    asker: str | None = Field(None, max_length=64)
    replaces: BuildId | None = None
    credential_id: str | None = Field(None, description="Id of a credential that can read the repository.")
    past_cache: bool = Field(False, description="Ask the registry itself: the launcher could not pull the image.")


class Build(Contract):
    """One attempt at one image. `build_id` is null for an image that was not built here.

    Times are Unix seconds. `waiting` is the number of launches that wait for it.
    """

    v: int = RECORD_VERSION
    build_id: BuildId | None
    image: str
    digest: str | None = None
    state: BuildState
    repo_url: str
    ref: str
    queue: Queue | None = None
    error: Problem | None = None
    priority: int = 0
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    waiting: int = 0

    @property
    def is_live(self) -> bool:
        """Whether the build is still queued or running."""
        return not self.state.is_final

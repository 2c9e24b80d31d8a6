"""A launch as its page shows it: steps, a headline, and what the reader can do now."""

import re
import time
from dataclasses import dataclass
from urllib.parse import unquote

from services.common.models import Launch, LaunchState, Problem, Server, ServerState
from services.common.models.error_codes import AUTHOR_CODES

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_JUST_NOW_SECONDS = 30.0

_STEPS = (
    ("resolving", "Find the repository", "Finding the repository"),
    ("building", "Build its environment", "Building the environment"),
    ("launching", "Start the server", "Starting the server"),
    ("ready", "Open it", "Ready: opening the server"),
)
_AT = {
    LaunchState.RESOLVING: 0,
    LaunchState.BUILDING: 1,
    LaunchState.WAITING: 2,
    LaunchState.LAUNCHING: 2,
    LaunchState.READY: 3,
}
_OF_PHASE = {phase: at for at, (phase, _, _) in enumerate(_STEPS)}
_MOVES = {
    "user": "You can put this right yourself.",
    "author": "The author of the repository can put this right.",
    "operator": "Whoever runs this Bindery can put this right.",
    "upstream": "The repository's host has to recover first.",
}


@dataclass(frozen=True)
class Step:
    """One step of the way. `state` is done, current, failed, stopped or todo."""

    phase: str
    title: str
    doing: str
    state: str
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """A launch, and what became of its server where there is one."""

    launch: Launch
    server: Server | None = None

    @property
    def is_final(self) -> bool:
        return self.launch.state.is_final

    @property
    def is_running(self) -> bool:
        """Whether there is a server to open."""
        if self.launch.state is not LaunchState.READY:
            return False
        return self.server is not None and self.server.state is ServerState.READY and bool(self.server.url)

    @property
    def opens_by_itself(self) -> bool:
        """Whether the server became ready only now: a launch that is looked at again later waits for a click."""
        return self.is_running and time.time() - (self.launch.finished_at or 0.0) < _JUST_NOW_SECONDS

    @property
    def name(self) -> str:
        repo = self.launch.repo
        return repo.display_name if repo else unquote(self.launch.spec.spec)

    @property
    def ref(self) -> str:
        """The ref that was found, a commit shortened as git does; empty before."""
        ref = self.launch.repo.ref if self.launch.repo else ""
        return ref[:10] if _SHA.fullmatch(ref) else ref

    @property
    def seconds(self) -> float:
        """How long it took, or has taken until now."""
        return max(0.0, (self.launch.finished_at or time.time()) - self.launch.created_at)

    @property
    def headline(self) -> str:
        launch = self.launch
        if launch.state is LaunchState.FAILED:
            return launch.error.title if launch.error else "The launch failed"
        if launch.state is LaunchState.CANCELLED:
            return launch.error.title if launch.error else "The launch was cancelled"
        if launch.state is LaunchState.READY:
            return "The server is ready" if self.is_running else "This server has ended"
        if launch.queue:
            return queue_sentence(launch)
        return _STEPS[_AT.get(launch.state, 0)][2]

    @property
    def explanation(self) -> str:
        """What went wrong or what it waits for, in a sentence, where there is such a thing."""
        launch = self.launch
        if launch.error:
            return launch.error.detail
        if launch.queue:
            return launch.queue.reason
        if launch.state is LaunchState.READY and not self.is_running:
            return "Servers end when nobody uses them for a while. What was not saved elsewhere is gone."
        return ""

    @property
    def whose_move(self) -> str:
        return whose_move(self.launch.error)

    @property
    def steps(self) -> list[Step]:
        at, state = self._position()
        found = self.launch.image is not None and self.launch.build_id is None
        steps = []
        for index, (phase, title, doing) in enumerate(_STEPS):
            here = "done" if index < at else state if index == at else "todo"
            note = "It was built before" if phase == "building" and here == "done" and found else ""
            steps.append(Step(phase, title, doing, here, note))
        return steps

    def _position(self) -> tuple[int, str]:
        launch = self.launch
        if launch.state is LaunchState.READY:
            return (len(_STEPS), "done") if self.is_running else (3, "stopped")
        if launch.state in {LaunchState.FAILED, LaunchState.CANCELLED}:
            phase = launch.error.phase if launch.error else None
            reached = 2 if launch.server_id else 1 if launch.repo else 0
            return _OF_PHASE.get(phase or "", reached), "failed" if launch.state is LaunchState.FAILED else "stopped"
        return _AT.get(launch.state, 0), "current"

    @property
    def rebuild(self) -> str:
        """The failed attempt to build again; empty where the failure was not one of the image."""
        error, build_id = self.launch.error, self.launch.build_id
        was_build = error is not None and error.code in AUTHOR_CODES and error.phase == "building"
        return build_id if was_build and build_id else ""

    @property
    def needs_another_link(self) -> bool:
        """Whether the same link would only fail again."""
        error = self.launch.error
        return error is not None and error.whose_move == "user" and not error.can_retry


def whose_move(error: Problem | None) -> str:
    """Who can do something about it, in a sentence; empty where nobody knows."""
    return _MOVES.get(error.whose_move, "") if error else ""


def queue_sentence(launch: Launch) -> str:
    """Where a waiting launch stands."""
    queue = launch.queue
    waiting = "Waiting for a free seat" if launch.state is LaunchState.WAITING else "Waiting for a builder"
    if queue is None or queue.position is None:
        return waiting
    eta = f", about {duration(queue.eta_seconds)}" if queue.eta_seconds is not None else ""
    return f"{waiting}: number {queue.position} in the queue{eta}"


def duration(seconds: float) -> str:
    """A length of time as people say it: `40 s`, `3 min`, `1 h 20 min`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

"""A launch as its page shows it: steps, a headline, and the next possible actions."""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote

from services.common.models import Launch, LaunchState, Problem, Server, ServerState
from services.common.models.error_codes import AUTHOR_CODES
from services.common.service.clock import clock

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REDIRECT_WITHIN_SECONDS = 30.0


class _StepText(NamedTuple):
    phase: str
    title: str
    doing: str


_STEPS = (
    _StepText("resolving", "Find the repository", "Finding the repository"),
    _StepText("building", "Build its environment", "Building the environment"),
    _StepText("launching", "Start the server", "Starting the server"),
    _StepText("ready", "Open it", "Ready: opening the server"),
)
_STEP_OF_PHASE = {step.phase: index for index, step in enumerate(_STEPS)}
_STEP_OF_STATE = {
    LaunchState.RESOLVING: 0,
    LaunchState.BUILDING: 1,
    LaunchState.WAITING: 2,
    LaunchState.LAUNCHING: 2,
    LaunchState.READY: 3,
}
_MOVES = {
    "user": "You can fix this yourself.",
    "author": "The author of the repository can fix this.",
    "operator": "The operator of this Bindery can fix this.",
    "upstream": "The repository's host has to recover first.",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a launch. `state` is done, current, failed, stopped or todo."""

    phase: str
    title: str
    doing: str
    state: str
    note: str = ""


@dataclass(frozen=True)
class LaunchPage:
    """A launch and its server, if there is one, in the words and states of the launch's page."""

    launch: Launch
    server: Server | None = None

    @property
    def is_final(self) -> bool:
        """Whether the launch has ended, well or badly."""
        return self.launch.state.is_final

    @property
    def is_running(self) -> bool:
        """Whether there is a server to open."""
        if self.launch.state is not LaunchState.READY:
            return False
        return self.server is not None and self.server.state is ServerState.READY and bool(self.server.url)

    @property
    def redirects_automatically(self) -> bool:
        """Whether the server became ready only now: the page of an older launch waits for a click."""
        return self.is_running and clock.now() - (self.launch.finished_at or 0.0) < _REDIRECT_WITHIN_SECONDS

    @property
    def name(self) -> str:
        """Name of the repository, or the link's spec before it is resolved."""
        repo = self.launch.repo
        return repo.display_name if repo else unquote(self.launch.spec.spec)

    @property
    def ref(self) -> str:
        """Resolved ref, a commit shortened as git does; empty before it is resolved."""
        ref = self.launch.repo.ref if self.launch.repo else ""
        return ref[:10] if _SHA.fullmatch(ref) else ref

    @property
    def seconds(self) -> float:
        """Duration of the launch, until its end or until now."""
        return max(0.0, (self.launch.finished_at or clock.now()) - self.launch.created_at)

    @property
    def headline(self) -> str:
        """Headline of the page: the launch's current step, or its outcome."""
        launch = self.launch
        if launch.state is LaunchState.FAILED:
            return launch.error.title if launch.error else "The launch failed"
        if launch.state is LaunchState.CANCELLED:
            return launch.error.title if launch.error else "The launch was cancelled"
        if launch.state is LaunchState.READY:
            return "The server is ready" if self.is_running else "This server has ended"

        if launch.queue:
            return queue_sentence(launch)
        return _STEPS[_STEP_OF_STATE.get(launch.state, 0)].doing

    @property
    def explanation(self) -> str:
        """A sentence about the error or the wait; empty if there is nothing to explain."""
        launch = self.launch
        if launch.error:
            return launch.error.detail
        if launch.queue:
            return launch.queue.reason
        if launch.state is LaunchState.READY and not self.is_running:
            return "Servers end when nobody uses them for a while. Files that were not saved elsewhere are gone."
        return ""

    @property
    def whose_move(self) -> str:
        """Who can put the launch's error right, in a sentence."""
        return whose_move(self.launch.error)

    @property
    def log_of_cause(self) -> str:
        """Address of the build's log from the line on that says why it failed; empty if none is known."""
        cause = self.launch.error.cause if self.launch.error else None
        if cause is None or not self.launch.log_path:
            return ""
        return f"{self.launch.log_path}?format=text&after={quote(cause.after, safe='')}"

    @property
    def steps(self) -> list[Step]:
        """Steps of the launch, each with its state."""
        position, position_state = self._position()
        was_built_before = self.launch.image is not None and self.launch.build_id is None

        steps = []
        for index, step in enumerate(_STEPS):
            state = "todo"
            if index < position:
                state = "done"
            elif index == position:
                state = position_state

            note = ""
            if step.phase == "building" and state == "done" and was_built_before:
                note = "It was built before"
            steps.append(Step(phase=step.phase, title=step.title, doing=step.doing, state=state, note=note))

        return steps

    def _position(self) -> tuple[int, str]:
        """Return the index of the step that the launch has reached, and that step's state."""
        launch = self.launch
        if launch.state is LaunchState.READY:
            return (len(_STEPS), "done") if self.is_running else (_STEP_OF_PHASE["ready"], "stopped")

        if launch.state in {LaunchState.FAILED, LaunchState.CANCELLED}:
            state = "failed" if launch.state is LaunchState.FAILED else "stopped"
            phase = launch.error.phase if launch.error else None
            return _STEP_OF_PHASE.get(phase or "", self._last_step()), state

        return _STEP_OF_STATE.get(launch.state, 0), "current"

    def _last_step(self) -> int:
        """Return the index of the step that an ended launch had reached, according to its record."""
        if self.launch.server_id:
            return _STEP_OF_PHASE["launching"]
        return _STEP_OF_PHASE["building" if self.launch.repo else "resolving"]

    @property
    def rebuild(self) -> str:
        """Id of the failed build to build again; empty unless the launch failed because of its build."""
        error = self.launch.error
        build_id = self.launch.build_id
        was_build = error is not None and error.code in AUTHOR_CODES and error.phase == "building"
        return build_id if was_build and build_id else ""

    @property
    def needs_another_link(self) -> bool:
        """Whether the same link would only fail again."""
        error = self.launch.error
        return error is not None and error.whose_move == "user" and not error.can_retry


def whose_move(error: Problem | None) -> str:
    """Return a sentence that says who can put an error right; empty if that is not known."""
    return _MOVES.get(error.whose_move, "") if error else ""


# `static/launch.js` has the next two functions too: positions and times change while a page is open, and the server
# does not render it again for each change.


def queue_sentence(launch: Launch) -> str:
    """Return the headline of a launch that waits in a queue."""
    queue = launch.queue
    headline = "Waiting for a free seat" if launch.state is LaunchState.WAITING else "Waiting for a builder"
    if queue is None or queue.position is None:
        return headline
    eta = f", about {duration(queue.eta_seconds)}" if queue.eta_seconds is not None else ""
    return f"{headline}: number {queue.position} in the queue{eta}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: `40 s`, `3 min`, `1 h 20 min`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

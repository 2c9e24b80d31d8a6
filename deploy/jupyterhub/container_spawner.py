"""Mixin for spawners of containers, whatever runs the container."""

import asyncio
from typing import Any

from jupyterhub.traitlets import ByteSpecification
from jupyterhub.utils import url_path_join
from traitlets import Float, List, Unicode

from deploy.jupyterhub.activity import ServerActivityMixin
from deploy.jupyterhub.binder_spawner import BinderSpawnerMixin, refusal
from deploy.jupyterhub.kept_token import has_configuration, is_answering, with_configuration

ANY_JUPYTER = with_configuration(
    "for program in jupyter-lab jupyter-notebook jupyter-server; do "
    'command -v "$program" >/dev/null && exec "$program" "$@"; done; '
    "echo 'The image has no jupyter-lab, jupyter-notebook or jupyter-server on its PATH.' >&2; exit 127"
)
"""Command that starts the first Jupyter program found in an image, after the image's entry point."""

_SINGLEUSER = "jupyterhub-singleuser"


class ContainerMixin(ServerActivityMixin, BinderSpawnerMixin):
    """Starts the Jupyter of an image and waits for its answer. Place it before a spawner of containers.

    If a container ends before it answers, the start fails at once, with the exit status and the last lines of the log.
    The hub alone would wait until its own deadline and report only that.
    """

    cmd: Any
    mem_limit: Any
    mem_guarantee: Any
    answer_timeout_seconds = Float(
        120, config=True, help="How long a server may take to answer after its container runs."
    )

    def apply_binder_options(self) -> None:
        """Set image, resources and command from the launch's options. Raise a 400 if they are not valid."""
        super().apply_binder_options()
        self.limit_memory()
        if self.auth_enabled:
            return

        command = list(self.cmd or [])
        # jupyterhub-singleuser asks the hub for its users, so it can't run a server with a token of its own.
        if not command or command == [_SINGLEUSER]:
            self.cmd = ANY_JUPYTER
        elif not has_configuration(command):
            self.cmd = with_configuration('exec "$@"', *command)

    dropped_capabilities = List(
        Unicode(),
        ["ALL"],
        config=True,
        help="Linux capabilities that a server does not have, even if its image makes it root; empty: the engine's "
        "default.",
    )
    default_mem_limit = ByteSpecification(
        "2G",
        config=True,
        help="Memory limit of a server if neither `mem_limit` nor its class sets one; 0: no limit.",
    )

    def limit_memory(self) -> None:
        """Set a memory limit on a server that has none; it is at least the server's guarantee."""
        if not self.mem_limit and self.default_mem_limit:
            self.mem_limit = max(self.default_mem_limit, self.mem_guarantee or 0)

    async def how_it_ended(self) -> str | None:
        """Return a sentence about the container's end, with the last lines of its log; None if it has not ended."""
        raise NotImplementedError

    async def wait_for_answer(self, url: str) -> None:
        """Wait until the server at `url` answers.

        Raise an `HTTPError` if the container ends, if the server doesn't answer, or if it doesn't keep its token.
        """
        address = url_path_join(url, self.server.base_url)
        pause = 0.1
        try:
            async with asyncio.timeout(self.answer_timeout_seconds):
                while not await is_answering(address, self.own_token):
                    if ending := await self.how_it_ended():
                        raise refusal(500, ending)
                    await asyncio.sleep(pause)
                    pause = min(1.0, pause * 1.3)
        except TimeoutError:
            raise refusal(504, f"Server at {url} didn't respond in {self.answer_timeout_seconds:g} seconds.") from None


def end_sentence(exit_status: Any, reason: str, tail: str) -> str:
    """Return the sentence for a server that ended before it answered; `reason` is the engine's word for it."""
    sentence = f"The server ended with exit status {exit_status}{f' ({reason})' if reason else ''} before it answered."
    return f"{sentence} The last lines of its log:\n{tail}" if tail.strip() else sentence

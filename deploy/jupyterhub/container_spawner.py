"""What a server in a container needs of its spawner, whoever runs the container."""

import asyncio
from typing import Any

from jupyterhub.traitlets import ByteSpecification
from jupyterhub.utils import url_path_join
from traitlets import Float, List, Unicode

from deploy.jupyterhub.activity import ServerActivityMixin
from deploy.jupyterhub.binder_spawner import BinderSpawnerMixin, refusal
from deploy.jupyterhub.kept_token import answers, is_kept, kept

ANY_JUPYTER = kept(
    "for one in jupyter-lab jupyter-notebook jupyter-server; do "
    'command -v "$one" >/dev/null && exec "$one" "$@"; done; '
    "echo 'The image has no jupyter-lab, jupyter-notebook or jupyter-server on its PATH.' >&2; exit 127"
)
"""Starts the first of the Jupyters that an image has, after its entry point."""

_SINGLEUSER = "jupyterhub-singleuser"


class ContainerMixin(ServerActivityMixin, BinderSpawnerMixin):
    """Starts what Jupyter there is in the image and sees it answer; to be placed before a spawner of containers.

    A container that ends before it answers fails at once, with its exit status and its last lines: the hub alone
    would wait for it until its own deadline, and say only that.
    """

    cmd: Any
    mem_limit: Any
    mem_guarantee: Any
    answer_timeout_seconds = Float(
        120, config=True, help="How long a server may take to answer, from when its container runs."
    )

    def apply_binder_options(self) -> None:
        super().apply_binder_options()
        self.limit_memory()
        if self.auth_enabled:
            return
        command = list(self.cmd or [])
        # jupyterhub-singleuser asks the hub who may come in, so it is no command for a server with a token of its own.
        if not command or command == [_SINGLEUSER]:
            self.cmd = ANY_JUPYTER
        elif not is_kept(command):
            self.cmd = kept('exec "$@"', *command)

    dropped_capabilities = List(
        Unicode(),
        ["ALL"],
        config=True,
        help="Linux capabilities that a server does without, also one whose image makes it root; empty: as the engine "
        "likes.",
    )
    default_mem_limit = ByteSpecification(
        "2G",
        config=True,
        help="Memory of a server for which neither `mem_limit` nor its class says how much; 0: no limit.",
    )

    def limit_memory(self) -> None:
        """Give a limit to a server that has none; what it is guaranteed, it may use."""
        if not self.mem_limit and self.default_mem_limit:
            self.mem_limit = max(self.default_mem_limit, self.mem_guarantee or 0)

    async def how_it_ended(self) -> str | None:
        """Return how the container ended, in a sentence with its last lines; None while it runs or is awaited."""
        raise NotImplementedError

    async def until_it_answers(self, url: str) -> None:
        """Wait until the server at `url` answers anything.

        Raises an `HTTPError` that says how it ended, that it doesn't answer, or that it doesn't keep its token.
        """
        address = url_path_join(url, self.server.base_url)
        pause = 0.1
        try:
            async with asyncio.timeout(self.answer_timeout_seconds):
                while not await answers(address, self.own_token):
                    if ended := await self.how_it_ended():
                        raise refusal(500, ended)
                    await asyncio.sleep(pause)
                    pause = min(1.0, pause * 1.3)
        except TimeoutError:
            raise refusal(504, f"Server at {url} didn't respond in {self.answer_timeout_seconds:g} seconds.") from None


def ended(exit_status: Any, why: str, tail: str) -> str:
    """Return the sentence for a server that ended before it answered; `why` is the engine's own word for it."""
    sentence = f"The server ended with exit status {exit_status}{f' ({why})' if why else ''} before it answered."
    return f"{sentence} The last lines of its log:\n{tail}" if tail.strip() else sentence

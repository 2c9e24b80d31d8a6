"""Mixin for any spawner that starts a Binder launch with its image, its token and the `BINDER_*` environment."""

import asyncio
import re
from typing import Any

from tornado.web import HTTPError
from traitlets import Bool, Unicode, default
from traitlets.config import Configurable

from deploy.jupyterhub.resources import read_resources

_OPTION_OF_VARIABLE = {
    "BINDER_REPO_URL": "repo_url",
    "BINDER_REF_URL": "binder_ref_url",
    "BINDER_LAUNCH_HOST": "binder_launch_host",
    "BINDER_REQUEST": "binder_request",
    "BINDER_PERSISTENT_REQUEST": "binder_persistent_request",
    "BINDER_CLIENT_IP": "binder_client_ip",
}
"""Fixed names: tools that watch mybinder.org and pages inside images read these variables."""

_HUB_TOKENS = ("JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")
"""Used only by a server that asks the hub for its users."""


def refusal(status_code: int, message: str) -> HTTPError:
    """Return an error whose message the caller gets unchanged, in the API's answer and in the progress stream."""
    return _Refusal(status_code, message)


class _Refusal(HTTPError):
    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(status_code, "%s", message)
        self.jupyterhub_message = message


class BinderSpawnerMixin(Configurable):
    """Reads the `user_options` of BinderHub and Bindery. Place it before a spawner in a class's bases.

    The server gets its token in the environment (JUPYTER_TOKEN, which Jupyter Server and Notebook both read), in
    containers too: arguments are readable by everyone on the machine and appear in pod specs. Each spawner must prevent
    a repository's configuration from replacing the token: see `kept_token`.
    """

    auth_enabled = Bool(
        False, config=True, help="Servers ask the hub who may come in, instead of asking for a token of their own."
    )
    cors_allow_origin = Unicode(
        "", config=True, help="Origins whose pages may use the servers: `*`, or a list with commas."
    )
    # Images of repo2docker may be years old and contain Notebook 6, which knows only `NotebookApp`; newer servers at
    # most log a warning. A spawner whose images are always new switches it off.
    has_notebook_app_args = Bool(True, config=True, help="Repeat every `ServerApp` argument for Notebook 6.")

    gpus = 0

    @default("progress_ready_hook")
    def _default_ready_hook(self) -> Any:
        return confirm_ready

    @property
    def own_token(self) -> str:
        """Token that the server must keep; empty if it asks the hub for its users."""
        return "" if self.auth_enabled else str(self.user_options["token"])

    def apply_binder_options(self) -> None:
        """Set image and resources from the launch's options.

        Raise a 400 if an anonymous launch lacks its image or token, or if its resources are not valid.
        """
        if not self.auth_enabled:
            for name in ("image", "token"):
                value = self.user_options.get(name)
                if not isinstance(value, str) or not value:
                    raise refusal(400, f"user_options.{name} is missing: a launch without it can't be started")

        if image := self.user_options.get("image"):
            self.image = image

        try:
            resources = read_resources(self.user_options)
        except ValueError as error:
            raise refusal(400, f"{error}") from None
        for trait, value in resources.traits.items():
            setattr(self, trait, value)
        self.gpus = resources.gpus

    async def start(self) -> Any:
        """Start the server of a launch. Raise a 400 if the launch lacks its image or token."""
        self.apply_binder_options()
        return await super().start()

    def binder_env(self) -> dict[str, str]:
        """Return the environment variables that a launch adds for its server."""
        env = {variable: str(self.user_options.get(name, "")) for variable, name in _OPTION_OF_VARIABLE.items()}
        if not self.auth_enabled:
            env["JUPYTER_TOKEN"] = self.own_token
        return env

    def get_env(self) -> dict[str, str]:
        """Return the server's environment; without the hub's tokens, unless the server uses the hub."""
        env: dict[str, str] = super().get_env() | self.binder_env()
        if self.auth_enabled:
            return env
        return {name: env[name] for name in env if name not in _HUB_TOKENS or name in self.environment}

    def get_args(self) -> list[str]:
        """Return the server's arguments; with `auth_enabled`, those of the spawner alone."""
        if self.auth_enabled:
            return super().get_args()

        settings = {
            "ip": self.ip,
            "port": self.port,
            "base_url": self.server.base_url,
            "trust_xheaders": True,
            **cors_settings(self.cors_allow_origin),
        }
        if self.default_url:
            settings["default_url"] = self.format_string(self.default_url)

        applications = ["ServerApp", "NotebookApp"] if self.has_notebook_app_args else ["ServerApp"]
        ours = [f"--{app}.{name}={value}" for app in applications for name, value in settings.items()]
        return ours + super().get_args()


def confirm_ready(spawner: Any, ready: dict[str, Any]) -> dict[str, Any]:
    """Return the hub's `ready` event with a mark that it is true; if the start was cancelled, return another event.

    A hub that gets a SIGTERM cancels everything it does, including this request and the start, and then reports every
    server that has not failed as ready. A server that is really ready has a poll callback (`add_poll_callback`).
    """
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    if is_cancelled or not getattr(spawner, "_callbacks", True):
        return {"progress": 100, "message": "JupyterHub is being stopped; the start goes on when it is back."}
    return {**ready, "is_sure": True}


def cors_settings(origins: str) -> dict[str, str]:
    """Return the server's settings that let pages of `origins` (`*`, or a list with commas) use it."""
    allowed = [origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()]
    if "*" in allowed:
        return {"allow_origin": "*", "allow_origin_pat": ".*"}
    if len(allowed) == 1:
        return {"allow_origin": allowed[0]}
    if allowed:
        return {"allow_origin_pat": f"^({'|'.join(re.escape(origin) for origin in allowed)})$"}
    return {}

"""Our spawners without a hub: the hub, the user and the server are objects with what a spawner reads of them."""

from types import SimpleNamespace
from typing import Any

from tornado.web import HTTPError
from traitlets.config import Config

OPTIONS = {
    "image": "registry.example/r@sha256:0",
    "token": "the-token",
    "repo_url": "https://example.org/{team}/r",
    "binder_ref_url": "https://example.org/team/r/tree/abc",
    "bindery_installation": "test",
    "bindery_launch_ref": "0123456789abcdef",
    "bindery_ref": "abc",
}


def spawner_of(kind: type, *, resources: object = None, **settings: object) -> Any:
    """Return a spawner of ann's, configured by `settings`, with the options of a launch that asks for `resources`."""
    hub = SimpleNamespace(
        public_host="", public_url=None, url="http://hub/hub/", base_url="/hub/", api_url="http://hub/hub/api",
        proto="http", connect_ip="hub", port=8081,
    )  # fmt: skip
    user = SimpleNamespace(name="ann", id=1, url="/user/ann/", escaped_name="ann", domain=None, orm_user=None)
    server = SimpleNamespace(base_url="/user/ann/", ip="", port=8888, url="http://server/user/ann/")
    config = Config({kind.__name__: settings})
    spawner = type(kind.__name__, (kind,), {"server": server, "_log_name": "ann", "orm_spawner": None})(
        hub=hub, user=user, config=config, api_token="of-the-hub", oauth_client_id="client"
    )
    spawner.user_options = OPTIONS | ({"bindery_resources": resources} if resources else {})
    spawner.apply_binder_options()
    return spawner


def message_of(error: HTTPError) -> str:
    """Return the hub's message about a refusal, as it is."""
    return str(error.jupyterhub_message)  # type: ignore[attr-defined]  # set by `refusal`

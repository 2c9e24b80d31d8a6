"""That a server keeps the token of its launch: nobody comes in without it, whatever the repository configures.

Jupyter takes JUPYTER_TOKEN for a default only, so a `c.ServerApp.token = ''` that a repository writes somewhere below
`~/.jupyter` would win over it, and leave the server open. So would a `cookie_secret` that stands in a repository: who
reads it there signs logins with it. An argument of the command line would win over that, but is read by everyone on the
machine (`ps`) and stands in pods. So the last word is a configuration file of ours: those in the first folder of
JUPYTER_CONFIG_PATH win over all others, and the repository's stay in force in all else.
Source: https://docs.jupyter.org/en/latest/use/jupyter-directories.html, "Configuration files".

A repository's own code runs as the server's user and may serve what it likes: this is about what it configures, or its
author copied without a thought. What gets past it (before jupyter_core 4.11.2, configuration in the working folder) is
found by asking the server before it is called ready.
"""

import json
from pathlib import Path

from jupyterhub.utils import url_path_join
from tornado.httpclient import HTTPClientError, HTTPResponse

from deploy.jupyterhub.activity import http_client
from deploy.jupyterhub.binder_spawner import refusal

CONFIGURATION = """\
# Written by Bindery: the launch's token opens this server, and nothing else does.
import importlib.util, os

_password_sections = ["PasswordIdentityProvider", "LegacyIdentityProvider"]
for _section in ["ServerApp", "IdentityProvider", *_password_sections]:
    c[_section].token = os.environ["JUPYTER_TOKEN"]
for _section in _password_sections:
    c[_section].hashed_password = ""
    c[_section].password_required = False
c.ServerApp.password = ""
c.ServerApp.password_required = False
# Who knows what logins are signed with signs one for himself. notebook_shim reads the last three names as ServerApp's.
_secret = os.urandom(32)
for _section in ["ServerApp", "NotebookApp", "LabApp", "JupyterNotebookApp"]:
    c[_section].cookie_secret = _secret
try:
    from jupyter_server.auth.login import LoginHandler
    c.ServerApp.login_handler_class = LoginHandler
    from jupyter_server.auth.identity import PasswordIdentityProvider
    c.ServerApp.identity_provider_class = PasswordIdentityProvider
except ImportError:
    pass  # Notebook 6, or a Jupyter Server 1, which has no identity providers

if importlib.util.find_spec("notebook") and importlib.util.find_spec("notebook.notebookapp"):  # until Notebook 6
    c.NotebookApp.token = os.environ["JUPYTER_TOKEN"]
    c.NotebookApp.password = ""
    c.NotebookApp.password_required = False
    c.NotebookApp.login_handler_class = "notebook.auth.login.LoginHandler"
"""
"""Python, run by the Jupyter of the image: any Jupyter Server, and any Notebook since 5."""

FILES = ("jupyter_server_config.py", "jupyter_notebook_config.py")
"""The names under which Jupyter Server and Notebook look for it."""

_WHERE = (
    "Look for it in the start script, the Dockerfile and Jupyter's configuration: token, password, login_handler_class"
    " and identity_provider_class are the launch's."
)
OPEN = f"The server lets everybody in without its token: the repository switches its authentication off. {_WHERE}"
OTHER_TOKEN = f"The server does not accept the launch's token: the repository gives it another one. {_WHERE}"

_WRITE = (
    "configuration=$1; shift; folder=`mktemp -d 2>/dev/null` && "
    + " && ".join(f"""printf '%s' "$configuration" >"$folder/{name}\"""" for name in FILES)
    + ' && if [ -n "$JUPYTER_CONFIG_PATH" ]; then folder="$folder:$JUPYTER_CONFIG_PATH"; fi && '
    'export JUPYTER_CONFIG_PATH="$folder"; '
)
# Neither braces nor `$(`: spawners format the one, and the kubelet the other.


def kept(script: str, *arguments: str) -> list[str]:
    """Return a command that runs a POSIX shell's `script` with `arguments`, in an environment that keeps the token.

    For containers, in which nothing of ours lies: the command itself brings the configuration along. One that can't be
    written is left out.
    """
    return ["/bin/sh", "-c", _WRITE + script, "jupyter", CONFIGURATION, *arguments]


def is_kept(command: list[str]) -> bool:
    """Whether a command is one of `kept`."""
    return CONFIGURATION in command


def write_configuration(folder: Path) -> None:
    """Write the configuration into `folder`, which JUPYTER_CONFIG_PATH is to name."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in FILES:
        (folder / name).write_text(CONFIGURATION)


async def answers(url: str, token: str, *, timeout_seconds: float = 5) -> bool:
    """Whether the server with the base address `url` answers, whatever it says; a start script may serve what it likes.

    Raises an `HTTPError` where that is a Jupyter that lets everybody in, or not who has the token. An empty token is
    for servers that ask the hub: nothing more is asked of them.
    """
    if (first := await _ask(url, "api", "", timeout_seconds)) is None:
        return False
    if not token or not _has_keys(first, "version"):
        return True
    if (without := await _ask(url, "api/status", "", timeout_seconds)) is None:
        return False
    if _has_keys(without, "kernels", "last_activity"):
        raise refusal(500, OPEN)
    if without.code not in {401, 403}:
        return True
    if (with_token := await _ask(url, "api/status", token, timeout_seconds)) is None:
        return False
    if with_token.code in {401, 403}:
        raise refusal(500, OTHER_TOKEN)
    return True


async def _ask(url: str, path: str, token: str, timeout_seconds: float) -> HTTPResponse | None:
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        return await http_client().fetch(
            url_path_join(url, path),
            headers=headers,
            request_timeout=timeout_seconds,
            follow_redirects=False,
            raise_error=False,
        )
    except (HTTPClientError, OSError):
        return None


def _has_keys(response: HTTPResponse, *keys: str) -> bool:
    if response.code != 200:
        return False
    try:
        said = json.loads(response.body)
    except ValueError:
        return False
    return isinstance(said, dict) and all(key in said for key in keys)

"""Protection of the launch's token: a server can't be used without it, whatever its repository configures.

For Jupyter, JUPYTER_TOKEN is only a default. A `c.ServerApp.token = ''` that a repository writes below `~/.jupyter`
would replace it and leave the server open. A `cookie_secret` in a repository would do the same: everyone who reads it
there can sign logins. A command-line argument would take precedence over both, but everyone on the machine can read it
(`ps`), and it appears in pods. So we write a configuration file: files in the first folder of JUPYTER_CONFIG_PATH take
precedence over all others, and the repository's files still apply to everything else.
Source: https://docs.jupyter.org/en/latest/use/jupyter-directories.html, "Configuration files".

The code of a repository runs as the server's user and may serve anything; this protects against configuration, often
copied without much thought. Before jupyter_core 4.11.2, configuration in the working folder takes precedence even over
ours: such a server is detected by a request before it is reported as ready.
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
# With the key that signs logins, anyone signs one for himself. notebook_shim reads the last three names as ServerApp's.
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
"""Python code that the Jupyter of the image runs: any Jupyter Server, and any Notebook since 5."""

FILES = ("jupyter_server_config.py", "jupyter_notebook_config.py")
"""File names that Jupyter Server and Notebook read."""

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
# It contains neither braces, which spawners would format, nor `$(`, which the kubelet would expand.


def with_configuration(script: str, *arguments: str) -> list[str]:
    """Return a command that writes the configuration and runs a POSIX shell `script` with `arguments`.

    It is for containers, which contain no file of ours. If the configuration can't be written, the script runs without.
    """
    return ["/bin/sh", "-c", _WRITE + script, "jupyter", CONFIGURATION, *arguments]


def has_configuration(command: list[str]) -> bool:
    """Return whether a command was made by `with_configuration`."""
    return CONFIGURATION in command


def write_configuration(folder: Path) -> None:
    """Write the configuration into `folder`, which JUPYTER_CONFIG_PATH must name."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in FILES:
        (folder / name).write_text(CONFIGURATION)


async def is_answering(url: str, token: str, *, timeout_seconds: float = 5) -> bool:
    """Return whether the server with the base address `url` answers anything; a start script may serve anything.

    Raise an `HTTPError` if it is a Jupyter that accepts everybody, or that does not accept the token. An empty token is
    for servers that ask the hub: they are not checked further.
    """
    version = await _get(url, "api", "", timeout_seconds)
    if version is None:
        return False
    if not token or not _has_keys(version, "version"):
        return True

    without_token = await _get(url, "api/status", "", timeout_seconds)
    if without_token is None:
        return False
    if _has_keys(without_token, "kernels", "last_activity"):
        raise refusal(500, OPEN)
    if without_token.code not in {401, 403}:
        return True

    with_token = await _get(url, "api/status", token, timeout_seconds)
    if with_token is None:
        return False
    if with_token.code in {401, 403}:
        raise refusal(500, OTHER_TOKEN)
    return True


async def _get(url: str, path: str, token: str, timeout_seconds: float) -> HTTPResponse | None:
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
        content = json.loads(response.body)
    except ValueError:
        return False
    return isinstance(content, dict) and all(key in content for key in keys)

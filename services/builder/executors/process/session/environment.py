"""The environments of a build's programs: variables of the worker's environment that are listed here, and no others."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from services.builder.executors.process.session.indexes import is_of_indexes, read_indexes

_INHERITED = {"LANG", "TZ", "TMPDIR", "TERM"}
_INHERITED |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"}
_INHERITED |= {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}
_INHERITED |= {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}
CONDA_CREDENTIALS = "RATTLER_AUTH_FILE"
"""The variable that names py-rattler's file of credentials, by host."""

RUN_VARIABLE = "BINDERY_RUN"
"""Tells in the environment of each program to which build or server it belongs: by a folder of that one alone."""

_FOR_THE_INSTALLER = {"UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_OFFLINE"}


def base_environment(worker: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the worker's environment that every program of a build may see.

    The virtual environment of Bindery itself is taken out of PATH: it is not the repository's.
    """
    ours = str(Path(sys.prefix) / "bin")
    path = [part for part in worker.get("PATH", os.defpath).split(os.pathsep) if part != ours]
    inherited = {name: value for name, value in worker.items() if name in _INHERITED or name.startswith("LC_")}
    return inherited | {"PATH": os.pathsep.join(path)}


def session_environment(worker: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a session: variables that its steps may need, and no settings of the services."""
    inherited = {name: value for name, value in worker.items() if _is_for_a_session(name)}
    return base_environment(worker) | inherited


def conda_environment(session: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment of the process that installs conda packages, and of their post-link scripts.

    The file of credentials is for that process alone: the scripts do not get its name.
    """
    credentials = {name: value for name, value in session.items() if name == CONDA_CREDENTIALS}
    return base_environment(session) | credentials | {"HOME": str(home), RUN_VARIABLE: str(home)}


def installer_environment(session: Mapping[str, str], data: Path, home: Path, *, downloads: str) -> dict[str, str]:
    """Return the environment of uv. All builds share its cache, so that each package is fetched once.

    Build backends of packages get this environment too. It says where packages come from, without credentials.
    """
    inherited = {name: value for name, value in session.items() if name in _FOR_THE_INSTALLER}

    return (
        base_environment(session)
        | inherited
        | read_indexes(session).environment
        | {
            "HOME": str(home),
            RUN_VARIABLE: str(home),
            "UV_CACHE_DIR": str(data / "uv-cache"),
            "UV_PYTHON_INSTALL_DIR": str(data / "uv-python"),
            "UV_PYTHON_DOWNLOADS": downloads,
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
        }
    )


def _is_for_a_session(name: str) -> bool:
    return name in _FOR_THE_INSTALLER or name == CONDA_CREDENTIALS or is_of_indexes(name)

"""Environment that a user's server inherits from the hub: the variables named here, and no others."""

import os
from collections.abc import Mapping

_INHERITED = {"LANG", "TZ", "TMPDIR", "TERM"}
_INHERITED |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
_INHERITED |= {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}
_INHERITED |= {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}


def server_environment(hub: Mapping[str, str], *, hub_prefix: str) -> dict[str, str]:
    """Return what a server inherits.

    The hub's own virtual environment (`hub_prefix`) is removed from PATH: its `pip` would install into the hub.
    """
    hub_path = hub.get("PATH", os.defpath).split(os.pathsep)
    path = [folder for folder in hub_path if folder != f"{hub_prefix}/bin"]
    inherited = {name: value for name, value in hub.items() if name in _INHERITED or name.startswith("LC_")}
    return inherited | {"PATH": os.pathsep.join(path)}

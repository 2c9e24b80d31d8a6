"""The proxy in front of the hub and of every user's server: traefik, as a component of its own.

The hub writes the routes to a file for it (`TraefikFileProviderProxy` with `should_start = False`), so that each of
the two can be restarted alone and the routes stay.
"""

import json
import shutil
import sys
from pathlib import Path

from deploy.local.processes import write_atomically
from deploy.local.settings import StartupError

TRAEFIK_CONFIG = """\
[global]
checkNewVersion = false
sendAnonymousUsage = false

[log]
level = "ERROR"
noColor = true

[api]
dashboard = false

[ping]
entryPoint = "auth_api"

[entryPoints.http]
address = "127.0.0.1:{port}"

[entryPoints.http.transport.lifeCycle]
graceTimeOut = "500ms"

[entryPoints.auth_api]
address = "127.0.0.1:{api_port}"

[providers]
providersThrottleDuration = "0s"

[providers.file]
filename = {rules}
watch = true
"""


def traefik_binary() -> Path:
    """Return the proxy's executable, that of our own environment first. Raise `StartupError` if it is missing."""
    beside = Path(sys.executable).parent / "traefik"
    if beside.exists():
        return beside
    if path := shutil.which("traefik"):
        return Path(path)
    raise StartupError("No traefik in this environment: run `make up`, which installs it.")


def rules_file(data_dir: Path) -> Path:
    """Return the file to which the hub writes the routes."""
    return data_dir / "proxy" / "rules.toml"


def proxy_command(data_dir: Path, port: int, api_port: int) -> tuple[str, ...]:
    """Write the configuration and return the command that starts the proxy.

    Routes of an earlier run lead to ports that other programs may have today, so they are deleted here. During a run
    they stay, and a restarted proxy finds them.
    """
    rules = rules_file(data_dir)
    rules.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(rules, "")

    config = rules.with_name("traefik.toml")
    quoted = json.dumps(str(rules), ensure_ascii=False)
    write_atomically(config, TRAEFIK_CONFIG.format(port=port, api_port=api_port, rules=quoted))
    return (str(traefik_binary()), "--configfile", str(config))

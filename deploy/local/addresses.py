"""Where the components of one stack listen, for each other."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deploy.local.ports import Ports


@dataclass(frozen=True)
class Addresses:
    """The sockets and addresses of one stack."""

    sockets: Path
    """Folder of the Unix sockets."""
    ports: Ports

    @property
    def redis_socket(self) -> Path:
        """Socket of Redis."""
        return self.socket("redis")

    @property
    def hub_api_url(self) -> str:
        """API of the hub, without the proxy."""
        return f"http://127.0.0.1:{self.ports.hub.number}/hub/api/"

    @property
    def proxy_url(self) -> str:
        """Proxy in front of the hub and the servers."""
        return f"http://127.0.0.1:{self.ports.proxy.number}/"

    @property
    def proxy_api_url(self) -> str:
        """API of the proxy, without a slash at the end."""
        return f"http://127.0.0.1:{self.ports.proxy_api.number}"

    def socket(self, name: str) -> Path:
        """Return the Unix socket of a component."""
        return self.sockets / f"{name}.sock"

    def socket_url(self, name: str) -> str:
        """Return the address of a component at its Unix socket."""
        return f"unix://{quote(str(self.socket(name)))}"

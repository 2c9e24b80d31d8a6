"""The APIs of hosts that links name: each is asked like a forge, and none may be in a private network."""

from collections.abc import MutableMapping

from cachetools import LRUCache

from services.common.net.outbound import CheckedClient
from services.common.net.reply import Reply
from services.resolver.forges.forge import Forge, ForgeHost
from services.resolver.settings import ResolverSettings

HOSTS_KEPT = 256
"""Of so many hosts it is remembered whether they answer."""


class StrangersHosts:
    """Hosts of one kind of archive, by the address of their API; all share the connections of one client.

    `label` is the kind's name in metrics.
    """

    def __init__(self, settings: ResolverSettings, *, label: str) -> None:
        self._settings = settings
        self._label = label
        self._client = CheckedClient(
            settings.networks, proxy=settings.proxy, total_seconds=settings.forge_timeout_seconds
        )
        self._forges: MutableMapping[str, Forge] = LRUCache(HOSTS_KEPT)

    async def get(self, url: str, path: str, *, name: str) -> Reply:
        """Return the reply to a GET of `path` below the address of an API; `name` is the host's for sentences.

        Raise as `Forge.get` does, and `BinderyError("ref_not_found")` for a host that does not exist.
        """
        forge = self._forges.get(url)
        if forge is None:
            host = ForgeHost(name=name, label=self._label, url=url, is_operators=False)
            forge = self._forges[url] = Forge(host, self._settings, client=self._client)
        return await forge.get(path)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

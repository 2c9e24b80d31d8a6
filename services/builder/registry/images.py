"""Images that are in a registry, as supervision and the API ask for them."""

import asyncio

from services.builder.images import FoundImage
from services.builder.registry.address import Address
from services.builder.registry.client import RegistryClient
from services.builder.registry.credentials import CredentialsError, make_credentials
from services.builder.registry.reference import Reference
from services.builder.registry.settings import RegistrySettings
from services.builder.registry.tokens import Refused
from services.builder.registry.transport import Away, Transport
from services.common.models.errors import BinderyError

HEALTH_SECONDS = 2.5
"""Health gives each of its checks 3 s, and has nothing to say about one that takes longer."""


class RegistryImages:
    """The images of one registry. Raises `ValueError`, a sentence for the operator, when the settings can't be used."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._address = Address.of(settings)
        self._transport = Transport(settings)
        self._credentials = make_credentials(settings)
        self._client = RegistryClient(settings, self._address, self._transport, self._credentials)
        self._health: tuple[float, str | None] | None = None

    async def find(self, image: str) -> FoundImage | None:
        """The image's digest, or None where the registry says that it has no such image.

        Raises `BinderyError`: `registry_unavailable` when nobody can say, after `registry_wait_seconds` at the
        latest; `internal` for a name that no registry can hold.
        """
        return await self._ask(image, self._settings.registry_wait_seconds)

    async def _ask(self, image: str, seconds: float) -> FoundImage | None:
        try:
            reference = Reference.parse(image)
        except ValueError as error:
            raise BinderyError("internal", f"No registry can hold an image called {image!r}: {error}.") from error
        registry = f"The image registry {self._address.host}"
        try:
            async with asyncio.timeout(seconds):
                return await self._client.find(reference.repository, reference.tag)
        except TimeoutError as error:
            raise BinderyError("registry_unavailable", f"{registry} has not answered within {seconds:g} s.") from error
        except Refused as error:
            raise BinderyError("registry_unavailable", f"{registry} lets us see nothing: {error}.") from error
        except CredentialsError as error:
            raise BinderyError(
                "registry_unavailable", f"{registry} can't be asked without a login: {error}."
            ) from error
        except Away as error:
            raise BinderyError(
                "registry_unavailable", f"{registry} can't be asked: {error}.",
                retry_after_seconds=error.retry_after_seconds,
            ) from error  # fmt: skip

    async def trouble(self) -> str | None:
        """Whether the registry would answer for an image; asked anew after `registry_health_seconds`.

        While something is wrong it is asked ten times as often.
        """
        now = asyncio.get_running_loop().time()
        if self._health is None or now >= self._health[0]:
            believed, trouble = self._settings.registry_health_seconds, None
            try:
                await self._ask(self._address.probe_name, min(HEALTH_SECONDS, self._settings.registry_wait_seconds))
            except BinderyError as error:
                believed, trouble = believed / 10, error.detail
            self._health = (asyncio.get_running_loop().time() + believed, trouble)
        return self._health[1]

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._credentials.aclose()
        await self._transport.aclose()

"""Image lookups in a registry, with failures as the errors that supervision and the API pass on."""

import asyncio

from services.builder.images import ExistingImage
from services.builder.registry.address import RegistryAddress
from services.builder.registry.client import RegistryClient
from services.builder.registry.credential_sources import make_credentials
from services.builder.registry.credentials import CredentialsError
from services.builder.registry.reference import Reference
from services.builder.registry.settings import RegistrySettings
from services.builder.registry.tokens import RegistryDenied
from services.builder.registry.transport import RegistryUnavailable, Transport
from services.common.models.errors import BinderyError

HEALTH_SECONDS = 2.5
"""Deadline of a lookup for health, which gives each of its checks 3 s and reports nothing for one that takes longer."""


class RegistryImages:
    """The images of one registry. Raise `ValueError`, a sentence for the operator, if the settings can't be used."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._address = RegistryAddress.of(settings)
        self._transport = Transport(settings)
        self._credentials = make_credentials(settings)
        self._client = RegistryClient(
            settings=settings, address=self._address, transport=self._transport, credentials=self._credentials
        )
        self._health: tuple[float, str | None] | None = None
        """Time until which the last health check counts, and the problem that it reported."""

    async def find(self, image: str) -> ExistingImage | None:
        """Return the image's digest, or None if the registry says that it has no such image.

        Raise `BinderyError`: `registry_unavailable` if it can't be determined, after `registry_wait_seconds` at the
        latest; `internal` for a name that no registry can hold.
        """
        return await self._find(image, self._settings.registry_wait_seconds)

    async def _find(self, image: str, seconds: float) -> ExistingImage | None:
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
        except RegistryDenied as error:
            raise BinderyError("registry_unavailable", f"{registry} gives us no access: {error}.") from error
        except CredentialsError as error:
            raise BinderyError(
                "registry_unavailable", f"{registry} can't be asked without a login: {error}."
            ) from error
        except RegistryUnavailable as error:
            raise BinderyError(
                "registry_unavailable", f"{registry} can't be asked: {error}.",
                retry_after_seconds=error.retry_after_seconds,
            ) from error  # fmt: skip

    async def health_problem(self) -> str | None:
        """Return why the registry would not answer a lookup, and what to do, or None.

        A result counts for `registry_health_seconds`, a tenth of that while something is wrong.
        """
        now = asyncio.get_running_loop().time()
        if self._health is None or now >= self._health[0]:
            problem = None
            valid_seconds = self._settings.registry_health_seconds
            try:
                await self._find(self._address.probe_name, min(HEALTH_SECONDS, self._settings.registry_wait_seconds))
            except BinderyError as error:
                problem = f"{error.detail} {_advice(error)}"
                valid_seconds /= 10
            self._health = (asyncio.get_running_loop().time() + valid_seconds, problem)
        return self._health[1]

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._credentials.aclose()
        await self._transport.aclose()


def _advice(error: BinderyError) -> str:
    """Return what an operator may do about a failed lookup, which users need not read."""
    if isinstance(error.__cause__, RegistryDenied | CredentialsError):
        return "See that the login in BINDERY_DOCKER_CONFIG is right, and may read and push there."
    return "Start it, or name it in BINDERY_IMAGE_PREFIX and BINDERY_REGISTRY_URL."

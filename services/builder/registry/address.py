"""Where the registry is asked, and under which hosts its logins may stand."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from services.builder.registry.reference import DOCKER_HUB, DOCKER_HUB_API, Reference, is_docker_hub
from services.builder.registry.settings import RegistrySettings


@dataclass(frozen=True)
class Address:
    """A registry's address. `names` are the hosts to look up logins by, first the one that is asked."""

    url: str
    names: tuple[str, ...]
    probe_name: str
    """An image that nobody builds, to ask for when it is the registry that is in question."""

    @classmethod
    def of(cls, settings: RegistrySettings) -> Self:
        """The address that the settings give.

        Raises `ValueError` for a URL that is none, and for an `image_prefix` that no registry could hold.
        """
        prefix = settings.image_prefix
        try:
            name = f"{prefix}health-check:none".replace("_", "-").lower()
            probe = Reference.parse(name)
        except ValueError as error:
            raise ValueError(f"BINDERY_IMAGE_PREFIX {prefix!r} can't begin an image's name: {error}.") from error
        given = settings.registry_url or (DOCKER_HUB_API if probe.host == DOCKER_HUB else probe.host)
        if "://" not in given:
            given = f"{'http' if settings.registry_insecure else 'https'}://{given}"
        try:
            parts = urlsplit(given)
            is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port)
        except ValueError:
            is_url = False
        if not is_url or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("BINDERY_REGISTRY_URL must be like https://registry.example.org:5000, without a login.")
        if is_docker_hub(parts.netloc):  # config.json calls it https://index.docker.io/v1/, which is not where to ask
            return cls(f"{parts.scheme}://{DOCKER_HUB_API}", (DOCKER_HUB,), name)
        path = parts.path.rstrip("/").removesuffix("/v2").removesuffix("/v1")
        names = dict.fromkeys([parts.netloc.lower(), probe.host])
        if probe.host == DOCKER_HUB:  # what Docker Hub knows us by is nobody else's business
            del names[DOCKER_HUB]
        return cls(f"{parts.scheme}://{parts.netloc}{path}", tuple(names), name)

    @property
    def host(self) -> str:
        return self.names[0]

    @property
    def is_docker_hub(self) -> bool:
        return self.host == DOCKER_HUB

    @property
    def is_encrypted(self) -> bool:
        return self.url.startswith("https:")

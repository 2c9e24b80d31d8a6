"""The registry's address: the URL of its API, and the hosts under which its logins are looked up."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

from services.builder.registry.reference import DOCKER_HUB, DOCKER_HUB_API, Reference, is_docker_hub
from services.builder.registry.settings import RegistrySettings


@dataclass(frozen=True)
class RegistryAddress:
    """A registry's address. `names` are the hosts to look up logins by, the host of `url` first."""

    url: str
    names: tuple[str, ...]
    probe_name: str
    """An image that nobody builds: looked up to test the registry itself."""

    @classmethod
    def of(cls, settings: RegistrySettings) -> Self:
        """Return the address that the settings give.

        Raise `ValueError` if `registry_url` is not a URL, or if no registry can hold an image with `image_prefix`.
        """
        prefix = settings.image_prefix
        try:
            probe_name = f"{prefix}health-check:none".replace("_", "-").lower()
            probe = Reference.parse(probe_name)
        except ValueError as error:
            raise ValueError(f"BINDERY_IMAGE_PREFIX {prefix!r} can't begin an image's name: {error}.") from error

        default_host = DOCKER_HUB_API if probe.host == DOCKER_HUB else probe.host
        parts = _split_url(settings.registry_url or default_host, is_insecure=settings.registry_insecure)

        if is_docker_hub(parts.netloc):  # config.json calls it https://index.docker.io/v1/, which is not its API
            return cls(f"{parts.scheme}://{DOCKER_HUB_API}", (DOCKER_HUB,), probe_name)

        path = parts.path.rstrip("/").removesuffix("/v2").removesuffix("/v1")
        names = dict.fromkeys([parts.netloc.lower(), probe.host])
        if probe.host == DOCKER_HUB:  # a login for Docker Hub must not be sent to another registry
            del names[DOCKER_HUB]
        return cls(f"{parts.scheme}://{parts.netloc}{path}", tuple(names), probe_name)

    @property
    def host(self) -> str:
        """Host and port of the registry, `docker.io` for Docker Hub."""
        return self.names[0]

    @property
    def is_docker_hub(self) -> bool:
        """Whether the registry is Docker Hub."""
        return self.host == DOCKER_HUB

    @property
    def is_encrypted(self) -> bool:
        """Whether the registry is called over https."""
        return self.url.startswith("https:")


def _split_url(url: str, *, is_insecure: bool) -> SplitResult:
    """Split the registry's URL, of which the scheme may be missing. Raise `ValueError`, a sentence for operators."""
    if "://" not in url:
        scheme = "http" if is_insecure else "https"
        url = f"{scheme}://{url}"

    problem = "BINDERY_REGISTRY_URL must be like https://registry.example.org:5000, without a login."
    try:
        parts = urlsplit(url)
        has_valid_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(problem) from None

    is_http = parts.scheme in {"http", "https"} and bool(parts.hostname) and has_valid_port
    if not is_http or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(problem)
    return parts

"""Lookups of manifests in a registry, authenticated in the way that the registry asks for.

Source: github.com/opencontainers/distribution-spec, "Checking if content exists in the registry".
"""

import hashlib
import json
import re
from collections.abc import MutableMapping

from cachetools import FIFOCache

from services.builder.images import ExistingImage
from services.builder.registry.address import RegistryAddress
from services.builder.registry.challenge import Challenge, best_challenge
from services.builder.registry.credentials import Credentials, Login
from services.builder.registry.settings import RegistrySettings
from services.builder.registry.tokens import RegistryDenied, TokenRequest, Tokens, basic_authorization
from services.builder.registry.transport import RegistryUnavailable, Transport, retry_after_seconds
from services.common.net.http import only_dict
from services.common.net.reply import Reply
from services.common.service.logging import get_logger

log = get_logger(__name__)

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""Every type of manifest that an engine may push: a registry answers 404 for a type that is not asked for."""

_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-zA-Z=_-]{32,}")
_MAX_CHALLENGES = 1000


class RegistryClient:
    """A client of one registry. Lookups raise `RegistryUnavailable`, `RegistryDenied` or `CredentialsError`."""

    def __init__(
        self, *, settings: RegistrySettings, address: RegistryAddress, transport: Transport, credentials: Credentials
    ) -> None:
        self._address = address
        self._transport = transport
        self._credentials = credentials
        self._is_insecure = settings.registry_insecure
        if settings.registry_not_found_401 is None:
            self._is_401_not_found = address.is_docker_hub
        else:
            self._is_401_not_found = settings.registry_not_found_401
        self._tokens = Tokens(transport, early_seconds=settings.registry_token_early_seconds)
        self._challenges: MutableMapping[str, Challenge] = FIFOCache(_MAX_CHALLENGES)
        """The last challenge of each repository, so that the next lookup need not be refused first."""

    async def find(self, repository: str, tag: str) -> ExistingImage | None:
        """Return the image's digest, or None if the registry says that it has no such manifest or repository."""
        path = f"/v2/{repository}/manifests/{tag}"
        reply = await self._request("HEAD", repository, path)
        if reply.status in {405, 501} or (reply.status == 200 and _digest(reply) is None):
            reply = await self._request("GET", repository, path)

        if reply.status == 200:
            return ExistingImage(_digest(reply) or f"sha256:{hashlib.sha256(reply.body).hexdigest()}")
        if reply.status == 404:
            await self._verify_not_found(reply)
            return None
        if reply.status == 401 and self._is_401_not_found and self._requires_token(repository):
            return None

        if reply.status in {401, 403}:
            login = await self._login(repository)
            log.warning(
                "registry_refused", registry=self._address.host, repository=repository, status=reply.status,
                login=login.username, note=login.note,
            )  # fmt: skip
            raise RegistryDenied(f"it refuses {login.name} to {repository} ({reply.status})")
        if reply.status == 429:
            raise RegistryUnavailable("it limits how often it may be asked (429)", retry_after_seconds(reply))
        raise RegistryUnavailable(f"it answered {reply.status}", retry_after_seconds(reply))

    async def _verify_not_found(self, reply: Reply) -> None:
        """Verify that a 404 comes from a registry. One from a proxy in front of it would have everything rebuilt.

        Raise `RegistryUnavailable`.
        """
        if "Docker-Distribution-Api-Version" in reply.headers or _has_errors(reply.body):
            return
        base = await self._transport.request("GET", f"{self._address.url}/v2/")
        if base.status not in {200, 401}:
            raise RegistryUnavailable(f"the server there is not a registry (404, and {base.status} for /v2/)")

    def _requires_token(self, repository: str) -> bool:
        challenge = self._challenges.get(repository)
        return challenge is not None and challenge.scheme == "bearer"

    async def _request(self, method: str, repository: str, path: str) -> Reply:
        """Send a request with the authorization that the registry wants, once more if it refuses the first one."""
        login = await self._login(repository)
        authorization = await self._authorization(repository, login)
        reply = await self._send(method, path, authorization)
        if reply.status != 401:
            return reply

        challenge = best_challenge(reply.headers.getall("WWW-Authenticate", []))
        if challenge is None:
            raise RegistryDenied("it wants a login (401), but offers no way to log in that we support")
        self._challenges[repository] = challenge

        retry = await self._authorization(repository, login, refused=authorization)
        return reply if retry == authorization else await self._send(method, path, retry)

    async def _send(self, method: str, path: str, authorization: str) -> Reply:
        headers = {"Accept": MANIFESTS}
        if authorization:
            headers["Authorization"] = authorization
        return await self._transport.request(method, self._address.url + path, headers=headers)

    async def _login(self, repository: str) -> Login:
        login = Login()
        for name in self._address.names:
            login = await self._credentials.login_for(name, repository)
            if not login.is_anonymous:
                break
        return login

    async def _authorization(self, repository: str, login: Login, *, refused: str = "") -> str:
        """Return the `Authorization` header that the repository last asked for; empty if it has not asked for one.

        `refused` is a header that the registry has just turned down: its token is not used again.
        """
        if login.registry_token:
            return f"Bearer {login.registry_token}"

        challenge = self._challenges.get(repository)
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return basic_authorization(login) if login.username or login.password else ""

        realm = challenge.parameters["realm"]
        if self._address.is_encrypted and not (realm.startswith("https:") or login.is_anonymous or self._is_insecure):
            raise RegistryDenied(f"it wants {login.name} sent unencrypted, to {realm}")
        request = TokenRequest(
            realm=realm,
            service=challenge.parameters.get("service", ""),
            scope=challenge.parameters.get("scope") or f"repository:{repository}:pull",
            login=login,
        )
        return "Bearer " + await self._tokens.get(request, refused=refused.removeprefix("Bearer "))

    async def aclose(self) -> None:
        """Cancel requests for tokens. The caller closes the transport and the credentials."""
        await self._tokens.aclose()


def _digest(reply: Reply) -> str | None:
    digest = reply.headers.get("Docker-Content-Digest", "")
    return digest if _DIGEST.fullmatch(digest) else None


def _has_errors(body: bytes) -> bool:
    """Return whether a body is a registry's own: an object with `errors`, such as NAME_UNKNOWN or MANIFEST_UNKNOWN."""
    try:
        return isinstance(only_dict(json.loads(body)).get("errors"), list)
    except (ValueError, RecursionError):
        return False

"""Asking a registry whether it has a manifest, as whom it wants us to ask.

Source: github.com/opencontainers/distribution-spec, "Checking if content exists in the registry".
"""

import hashlib
import json
import re
from collections.abc import Mapping

from services.builder.images import FoundImage
from services.builder.registry.address import Address
from services.builder.registry.challenge import Challenge, best_challenge
from services.builder.registry.credentials import Credentials, Login
from services.builder.registry.settings import RegistrySettings
from services.builder.registry.tokens import Refused, Tokens, Wanted, basic
from services.builder.registry.transport import Answer, Away, Transport, retry_after
from services.common.net.http import only_dict
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
_REPOSITORIES_KEPT = 1000


class RegistryClient:
    """One registry. Every question raises `Away`, `Refused` or `CredentialsError` where it stays unanswered."""

    def __init__(
        self, settings: RegistrySettings, address: Address, transport: Transport, credentials: Credentials
    ) -> None:
        self._address, self._transport, self._credentials = address, transport, credentials
        self._is_insecure = settings.registry_insecure
        wanted = settings.registry_not_found_401
        self._is_401_not_found = address.is_docker_hub if wanted is None else wanted
        self._tokens = Tokens(transport, early_seconds=settings.registry_token_early_seconds)
        self._challenges: dict[str, Challenge] = {}
        """What each repository lately wanted to be told, so that it need not refuse first."""

    async def find(self, repository: str, tag: str) -> FoundImage | None:
        """The manifest's digest; None when the registry says that there is no such manifest, or no such repository."""
        path = f"/v2/{repository}/manifests/{tag}"
        answer = await self._ask("HEAD", repository, path)
        if answer.status in {405, 501} or (answer.status == 200 and _digest(answer) is None):
            answer = await self._ask("GET", repository, path)
        if answer.status == 200:
            return FoundImage(_digest(answer) or f"sha256:{hashlib.sha256(answer.body).hexdigest()}")
        if answer.status == 404:
            await self._believe(answer)
            return None
        if answer.status == 401 and self._is_401_not_found and self._wants_token(repository):
            return None
        if answer.status in {401, 403}:
            login = await self._login(repository)
            log.warning(
                "registry_refused", registry=self._address.host, repository=repository, status=answer.status,
                login=login.username, note=login.note,
            )  # fmt: skip
            raise Refused(f"it refuses {login.name} to {repository} ({answer.status})")
        if answer.status == 429:
            raise Away("it limits how often it may be asked (429)", retry_after(answer))
        raise Away(f"it answered {answer.status}", retry_after(answer))

    async def _believe(self, answer: Answer) -> None:
        """Believe a 404 of a registry only: one of a proxy in front of it would have everything built anew.

        Raises `Away`.
        """
        if "Docker-Distribution-Api-Version" in answer.headers or _has_errors(answer.body):
            return
        base = await self._transport.request("GET", f"{self._address.url}/v2/")
        if base.status not in {200, 401}:
            raise Away(f"what answers there is no registry (404, and {base.status} for /v2/)")

    def _wants_token(self, repository: str) -> bool:
        challenge = self._challenges.get(repository)
        return challenge is not None and challenge.scheme == "bearer"

    async def _ask(self, method: str, repository: str, path: str) -> Answer:
        """Ask as whom the registry wants us; once more with a new token where it turned the old one down."""
        login = await self._login(repository)
        sent = await self._authorization(repository, login)
        answer = await self._send(method, path, sent)
        if answer.status != 401:
            return answer
        challenge = best_challenge(answer.headers.getall("WWW-Authenticate", []))
        if challenge is None:
            raise Refused("it wants a login (401), but names no way to log in that we know")
        while len(self._challenges) >= _REPOSITORIES_KEPT:
            self._challenges.pop(next(iter(self._challenges)))
        self._challenges[repository] = challenge
        again = await self._authorization(repository, login, refused=sent)
        return answer if again == sent else await self._send(method, path, again)

    async def _send(self, method: str, path: str, authorization: str) -> Answer:
        headers: Mapping[str, str] = {"Accept": MANIFESTS} | ({"Authorization": authorization} if authorization else {})
        return await self._transport.request(method, self._address.url + path, headers=headers)

    async def _login(self, repository: str) -> Login:
        login = Login()
        for name in self._address.names:
            login = await self._credentials.for_(name, repository)
            if not login.is_anonymous:
                break
        return login

    async def _authorization(self, repository: str, login: Login, *, refused: str = "") -> str:
        """The `Authorization` header that the repository last wanted; empty where it has not refused anything yet."""
        if login.registry_token:
            return f"Bearer {login.registry_token}"
        if (challenge := self._challenges.get(repository)) is None:
            return ""
        if challenge.scheme == "basic":
            return basic(login) if login.username or login.password else ""
        realm = challenge.parameters["realm"]
        if self._address.is_encrypted and not (realm.startswith("https:") or login.is_anonymous or self._is_insecure):
            raise Refused(f"it wants {login.name} sent unencrypted, to {realm}")
        scope = challenge.parameters.get("scope") or f"repository:{repository}:pull"
        wanted = Wanted(realm, challenge.parameters.get("service", ""), scope, login)
        return "Bearer " + await self._tokens.get(wanted, refused=refused.removeprefix("Bearer "))

    async def aclose(self) -> None:
        """End what is under way; the transport and the credentials are closed by who made them."""
        await self._tokens.aclose()


def _digest(answer: Answer) -> str | None:
    digest = answer.headers.get("Docker-Content-Digest", "")
    return digest if _DIGEST.fullmatch(digest) else None


def _has_errors(body: bytes) -> bool:
    """Whether a body is a registry's own: an object with `errors`, such as NAME_UNKNOWN or MANIFEST_UNKNOWN."""
    try:
        return isinstance(only_dict(json.loads(body)).get("errors"), list)
    except ValueError:
        return False

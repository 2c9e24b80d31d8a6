"""Logins on Google's clouds: the access token of the service account that this machine or pod runs as.

Source: cloud.google.com/compute/docs/access/authenticate-workloads; Artifact Registry takes the token as the password
of `oauth2accesstoken`. `GCE_METADATA_HOST` names another metadata server, as in Google's own clients.
"""

import asyncio
import json
import os

from services.builder.registry.credentials import CredentialsError, Login
from services.builder.registry.settings import RegistrySettings
from services.builder.registry.transport import RegistryUnavailable, Transport
from services.common.net.http import only_dict

_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"


class GoogleMetadata:
    """Logins from the metadata server, whose access token is cached until shortly before it expires."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._url = f"http://{os.environ.get('GCE_METADATA_HOST') or 'metadata.google.internal'}{_PATH}"
        self._early_seconds = settings.registry_token_early_seconds
        self._transport = Transport(settings, goes_outside=False)
        self._lock = asyncio.Lock()
        self._login = Login()
        self._expires = 0.0

    async def login_for(self, registry: str, repository: str) -> Login:
        """Return the service account's login. Raise `CredentialsError` if the metadata server gives no token."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._login.is_anonymous or now >= self._expires:
                token, life_seconds = await self._fetch()
                self._login = Login(username="oauth2accesstoken", password=token)
                self._expires = now + max(life_seconds - self._early_seconds, life_seconds / 2)
            return self._login

    async def _fetch(self) -> tuple[str, float]:
        """Return a new token and its lifetime in seconds."""
        try:
            reply = await self._transport.request("GET", self._url, headers={"Metadata-Flavor": "Google"})
            if reply.status != 200:
                raise CredentialsError(f"Google's metadata server answered {reply.status}")
            body = only_dict(json.loads(reply.body))
            return str(body["access_token"]), float(body["expires_in"])
        except RegistryUnavailable as error:
            raise CredentialsError(f"Google's metadata server can't be asked: {error}") from error
        except (KeyError, ValueError, TypeError) as error:
            raise CredentialsError("Google's metadata server answered without a token") from error

    async def aclose(self) -> None:
        """Close connections."""
        await self._transport.aclose()

"""The secrets of an installation, and who gets which: each service's file in the folder `secrets` has its own alone."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping

from deploy.redis.users import USERS, redis_user_name, users_file

REDIS_PREFIX = "bindery"
_ID = re.compile(r"[a-z0-9]{1,40}")
_SECRET = re.compile(r"[A-Za-z0-9._~-]{32,256}")
_NAMES = (
    "INSTALLATION_SECRET", "SERVICE_TOKEN", "METRICS_TOKEN", "HUB_API_TOKEN", "HUB_CRYPT_KEY", "PROXY_API_PASSWORD",
    *(f"REDIS_{user.upper()}_PASSWORD" for user in USERS),
)  # fmt: skip


class SecretsError(Exception):
    """The secrets can't be used as they are; the message is one sentence."""


def completed(known: Mapping[str, str]) -> dict[str, str]:
    """Return all secrets: those that are `known`, and new ones (64 hex digits) for those that are missing.

    Raise `SecretsError` for a known one that is too short, or has characters that can't be in an address.
    """
    if not _ID.fullmatch(known.get("INSTALLATION_ID", "x")):
        raise SecretsError("INSTALLATION_ID has other characters than a-z and 0-9, or none.")
    for name in _NAMES:
        if name in known and not _SECRET.fullmatch(known[name]):
            raise SecretsError(
                f"{name} has fewer than 32 characters, or others than letters, digits and . _ ~ -: delete its line, "
                "and run this again for a new one."
            )

    made = {"INSTALLATION_ID": secrets.token_hex(6)} | {name: secrets.token_hex(32) for name in _NAMES}
    return made | {name: value for name, value in known.items() if name in made}


def redis_users(values: Mapping[str, str]) -> str:
    """Return the file of Redis' users. It has hashes of long random passwords, which are no secrets."""
    passwords = {user: values[f"REDIS_{user.upper()}_PASSWORD"] for user in USERS}
    return users_file(f"{REDIS_PREFIX}:{values['INSTALLATION_ID']}", passwords)


def environments(values: Mapping[str, str], registry_login: str) -> dict[str, dict[str, str]]:
    """Return the secret variables of each container, by its name; `registry_login` is a `config.json` or empty."""
    service = {f"BINDERY_{name}": values[name] for name in ("INSTALLATION_ID", "SERVICE_TOKEN", "METRICS_TOKEN")}
    signing = {"BINDERY_INSTALLATION_SECRET": values["INSTALLATION_SECRET"]}
    hub_token = {"BINDERY_HUB_API_TOKEN": values["HUB_API_TOKEN"]}
    login = {"BINDERY_DOCKER_AUTH_CONFIG": registry_login} if registry_login else {}

    def redis(user: str) -> dict[str, str]:
        password = values[f"REDIS_{user.upper()}_PASSWORD"]
        return {"BINDERY_REDIS_URL": f"redis://{redis_user_name(user)}:{password}@redis:6379/0"}

    return {
        "gateway": service | redis("gateway") | signing,
        "resolver": service | redis("resolver"),
        "builder": service | redis("builder") | login,
        "worker": service | redis("worker") | login,
        "launcher": service | redis("launcher") | signing | hub_token,
        "hub": {
            **hub_token,
            "BINDERY_PROXY_API_PASSWORD": values["PROXY_API_PASSWORD"],
            "JUPYTERHUB_CRYPT_KEY": values["HUB_CRYPT_KEY"],
        } | login,
        # The sum makes Compose replace the container when its users have changed.
        "redis": {"REDISCLI_AUTH": values["REDIS_HEALTH_PASSWORD"], "USERS_SHA256": _sha256(redis_users(values))},
    }  # fmt: skip


def registry_login(image_prefix: str, username: str, password: str) -> str:
    """Return Docker's `config.json` with a login for the registry of `image_prefix`; nothing without a login."""
    if not username:
        return ""

    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    return json.dumps({"auths": {registry_of(image_prefix) or "https://index.docker.io/v1/": {"auth": encoded}}})


def registry_of(image_prefix: str) -> str:
    """Return the registry's host in the beginning of a name, as Docker reads it; nothing for Docker Hub."""
    host, slash, _ = image_prefix.partition("/")
    return host if slash and (host == "localhost" or "." in host or ":" in host) else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

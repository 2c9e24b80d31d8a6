"""What is wrong with `.env`, beyond what Compose itself says."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from deploy.compose.service_secrets import registry_of


def problems(env: Mapping[str, str]) -> list[str]:
    """Return a sentence for each combination of settings that can't work."""
    return [*_addresses(env), *_registry(env)]


def unreadable_files(folder: Path, env: Mapping[str, str]) -> list[str]:
    """Return a sentence for each file of the operator's own that containers, whose user is another, can't read."""
    sentences = []
    for name in ("BINDERY_SETTINGS_FILE", "BINDERY_HUB_CONFIG_FILE"):
        path = folder / env.get(name, "")
        if env.get(name) and not path.is_file():
            sentences.append(f"{name} names {path}, which is no file: name one, or remove the line from .env")
        elif env.get(name) and not path.stat().st_mode & stat.S_IROTH:
            sentences.append(f"The containers' user can't read {path} ({name}): run chmod o+r {path}")
    return sentences


def _addresses(env: Mapping[str, str]) -> Iterator[str]:
    port = env.get("BINDERY_PORT") or "8585"
    addresses = {
        "BINDERY_PUBLIC_URL": env.get("BINDERY_PUBLIC_URL") or f"http://127.0.0.1:{port}",
        "BINDERY_SERVERS_URL": env.get("BINDERY_SERVERS_URL") or f"http://localhost:{port}/",
    }
    hosts = {}
    for name, address in addresses.items():
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            yield f"{name}={address} is not an address: write https://bindery.example.org"
        elif "tls" in _profiles(env) and parts.scheme != "https":
            yield f"{name}={address} is not https, but COMPOSE_PROFILES has tls: write both addresses with https://"
        hosts[name] = parts.hostname

    if len(set(hosts.values())) == 1:
        yield (
            f"BINDERY_PUBLIC_URL and BINDERY_SERVERS_URL have the same host, {hosts['BINDERY_PUBLIC_URL']}: servers of "
            "users would get the cookies of Bindery's own pages. Give servers another name"
        )


def _registry(env: Mapping[str, str]) -> Iterator[str]:
    prefix = env.get("BINDERY_IMAGE_PREFIX", "")
    here = f"127.0.0.1:{env.get('BINDERY_REGISTRY_PORT') or '5000'}"
    is_elsewhere = bool(prefix) and registry_of(prefix) not in {here, here.replace("127.0.0.1", "localhost")}

    if is_elsewhere and env.get("BINDERY_REGISTRY_URL", "http://registry:5000") == "http://registry:5000":
        yield (
            f"Images go to {registry_of(prefix) or 'Docker Hub'}, but would be looked for in the registry of "
            "docker-compose.yml: add the line BINDERY_REGISTRY_URL= with nothing behind it"
        )
    if not is_elsewhere and "registry" not in _profiles(env):
        yield "There is no registry: add registry to COMPOSE_PROFILES, or set BINDERY_IMAGE_PREFIX to one elsewhere"
    if bool(env.get("BINDERY_REGISTRY_USERNAME")) != bool(env.get("BINDERY_REGISTRY_PASSWORD")):
        yield "Set both BINDERY_REGISTRY_USERNAME and BINDERY_REGISTRY_PASSWORD, or neither"


def _profiles(env: Mapping[str, str]) -> set[str]:
    return {profile.strip() for profile in env.get("COMPOSE_PROFILES", "").split(",")}

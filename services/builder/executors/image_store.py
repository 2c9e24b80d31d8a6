"""The identity of the store that has the images: a cached image is valid for one store."""

import hashlib
import json

from services.builder.executors.docker.settings import DockerSettings
from services.builder.settings import BuilderSettings


def image_store_id(settings: BuilderSettings) -> str:
    """Return an id for the store in which these settings keep images, and for their names in it.

    Another prefix, registry, engine or executor makes another store, about which nothing is cached yet.
    """
    identity = [settings.executor, settings.image_prefix, settings.registry_url, settings.build_push]
    if settings.executor == "process":
        identity.append(str(settings.data_dir.absolute()))
    elif not settings.build_push:
        identity.append(DockerSettings.engine_of(settings).docker_host)
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

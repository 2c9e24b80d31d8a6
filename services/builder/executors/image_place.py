"""The identity of the place that holds images: what is cached about images is valid for one place."""

import hashlib
import json

from services.builder.executors.docker.settings import DockerSettings
from services.builder.settings import BuilderSettings


def image_place(settings: BuilderSettings) -> str:
    """Return an id for the place where these settings keep images, and for their names there.

    Another prefix, registry, engine or executor makes another place, about which nothing is cached yet.
    """
    place = [settings.executor, settings.image_prefix, settings.registry_url, settings.build_push]
    if settings.executor == "process":
        place.append(str(settings.data_dir.absolute()))
    elif not settings.build_push:
        place.append(DockerSettings.engine_of(settings).docker_host)
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:16]

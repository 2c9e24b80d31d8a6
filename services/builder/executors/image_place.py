"""Which place of images the settings mean, as what is known of images is kept with it."""

import hashlib
import json

from services.builder.executors.docker.settings import DockerSettings
from services.builder.settings import BuilderSettings


def place_of_images(settings: BuilderSettings) -> str:
    """A name for where these settings have images, and for what they call them there.

    What is known of images holds in one place: under another prefix, registry, engine or executor nothing is known.
    """
    place = [settings.executor, settings.image_prefix, settings.registry_url, settings.build_push]
    if settings.executor == "process":
        place.append(str(settings.data_dir.absolute()))
    elif not settings.build_push:
        place.append(DockerSettings.engine_of(settings).docker_host)
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:16]

"""Redis, traefik and registry for docker-compose.yml where their images can't be pulled: made of packages.

Each has the commands, users and folders of the image that it stands in for, as far as docker-compose.yml relies on
them; root is the user of each, as there. `python -m tests.support.compose_images` prints them as lines of `.env`.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from deploy.local.proxy import traefik_binary
from tests.support import engine_images
from tests.support.engine import CACHE, Engine, engine

FOLDER = Path(__file__).parent / "images"


@dataclass(frozen=True)
class StandIns:
    """The names of the images in the engine."""

    redis: str
    traefik: str
    registry: str

    def variables(self) -> dict[str, str]:
        """Return what tells docker-compose.yml to use them."""
        return {"REDIS_IMAGE": self.redis, "TRAEFIK_IMAGE": self.traefik, "REGISTRY_IMAGE": self.registry}


def ensure(running: Engine, cache: Path = CACHE) -> StandIns:
    """Return the images, each made now unless the engine has it."""
    context = cache / "images" / "traefik"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(FOLDER / "traefik", context)
    shutil.copy(traefik_binary(), context / "traefik")
    try:
        return StandIns(
            redis=engine_images.built(running.host, "valkey", FOLDER / "valkey", running.base),
            traefik=engine_images.built(running.host, "traefik", context, running.base),
            registry=engine_images.built(running.host, "registry", FOLDER / "registry", running.base),
        )
    finally:
        shutil.rmtree(context)


def dind(running: Engine) -> str:
    """Return the image of an engine in a pod, made now unless the engine has it: only the chart uses it."""
    return engine_images.built(running.host, "dind", FOLDER / "dind", running.base)


def main() -> None:
    with engine() as running:
        for name, value in ensure(running).variables().items():
            print(f"{name}={value}")


if __name__ == "__main__":
    main()

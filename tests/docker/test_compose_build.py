"""`docker compose build`, for whoever starts from a checkout without images: it makes those that the services run."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from tests.docker.compose import Chain
from tests.support.compose_stack import ComposeStack
from tests.support.engine import Engine
from tests.support.service_images import IMAGES

pytestmark = pytest.mark.timeout(900)  # of which making the images takes most, the first time
TAG = "of-compose"


@pytest.fixture
def checkout(compose: Chain, docker: Engine) -> Iterator[ComposeStack]:
    """A checkout whose images are built on the tests' base, with packages that come by the host's network."""
    stack = replace(compose, is_behind_proxy=False).prepare()
    stack.set_variables(BINDERY_TAG=TAG, BINDERY_BASE=docker.base, BINDERY_REPO2DOCKER_BASE=docker.base)
    services = yaml.safe_load((stack.folder / "docker-compose.yml").read_text())["services"]
    by_host = {name: {"build": {"network": "host"}} for name, service in services.items() if "build" in service}
    (stack.folder / "docker-compose.override.yml").write_text(yaml.safe_dump({"services": by_host}))
    try:
        yield stack
    finally:
        stack.stop()
        docker.docker("rmi", *(f"localhost/bindery/{image}:{TAG}" for image in IMAGES), is_checked=False)


def test_compose_builds_the_images_of_make_images_under_the_names_that_its_services_have(
    checkout: ComposeStack, docker: Engine, service_images: dict[str, str]
) -> None:
    checkout.compose("build", seconds=600)
    ours = [name for name in checkout.compose("config", "--images").split() if name.startswith("localhost/bindery/")]
    assert set(ours) == {f"localhost/bindery/{image}:{TAG}" for image in IMAGES}
    for image in IMAGES:
        assert what_runs(docker, f"localhost/bindery/{image}:{TAG}") == what_runs(docker, service_images[image])


def what_runs(docker: Engine, image: str) -> dict[str, object]:
    """Return an image's layers, and how it is run: what may be there but labels."""
    [description] = json.loads(docker.docker("image", "inspect", image))
    config = {name: value for name, value in description["Config"].items() if name not in {"Labels", "Image"}}
    return {**config, "layers": description["RootFS"]["Layers"]}

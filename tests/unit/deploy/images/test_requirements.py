"""What is installed into which image: pinned as everywhere, and Kubernetes' client only where pods are made."""

import re

import pytest

from tests.support.paths import CHECKOUT

IMAGES = CHECKOUT / "deploy" / "images"


def pins(text: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9-]+==\S+", text, re.MULTILINE))


def names(text: str) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(text)}


@pytest.mark.parametrize(("image", "has_kubernetes"), [("service", False), ("builder", True), ("hub", True)])
def test_an_image_has_the_versions_of_make_up_and_kubernetes_only_where_it_is_used(
    image: str, has_kubernetes: bool
) -> None:
    requirements = (IMAGES / image / "requirements.txt").read_text()
    assert pins(requirements) - pins((CHECKOUT / "requirements.lock").read_text()) == set()
    assert ("kubernetes-asyncio" in names(requirements)) is has_kubernetes

"""What is installed into which image: pinned as everywhere, and Kubernetes' client only where pods are made."""

import re

import pytest

from tests.support.paths import CHECKOUT

IMAGES = CHECKOUT / "deploy" / "images"


def pins(text: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9-]+==\S+", text, re.MULTILINE))


def names(text: str) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(text)}


DRIVERS = {"psycopg", "psycopg-binary", "pymysql"}


@pytest.mark.parametrize(("image", "has_kubernetes"), [("service", False), ("builder", True), ("hub", True)])
def test_an_image_has_the_versions_of_make_up_and_kubernetes_only_where_it_is_used(
    image: str, has_kubernetes: bool
) -> None:
    requirements = (IMAGES / image / "requirements.txt").read_text()
    others = pins(requirements) - pins((CHECKOUT / "requirements.lock").read_text())
    assert {pin.partition("==")[0] for pin in others} == (DRIVERS if image == "hub" else set())
    assert ("kubernetes-asyncio" in names(requirements)) is has_kubernetes


def test_make_up_installs_no_driver_of_a_database() -> None:
    assert names((CHECKOUT / "requirements.lock").read_text()) & DRIVERS == set()

"""The package as a program imports it."""

import subprocess
import sys
from importlib import resources

import pytest

import bindery
from deploy.local.settings import CHECKOUT


def test_the_client_is_imported_from_the_package() -> None:
    from bindery import Client, GatewayError, client

    assert (Client, GatewayError) == (client.Client, client.GatewayError)
    assert sorted(bindery.__all__) == ["Client", "GatewayError"]
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        bindery.Server  # noqa: B018


def test_the_package_says_that_it_is_typed() -> None:
    assert (resources.files(bindery) / "py.typed").is_file()


def test_the_package_is_imported_without_the_client() -> None:
    code = "import bindery, sys; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)

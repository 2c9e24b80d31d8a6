"""Where the hub listens."""

import pytest

from deploy.jupyterhub.configuration import listen_host


@pytest.mark.parametrize("host", ["10.1.2.3", "localhost", "::1"])
def test_the_hub_listens_on_an_address_or_a_name_that_is_known_here(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HUB_LISTEN_HOST", host)
    assert listen_host() == host


def test_without_a_setting_the_hub_listens_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERY_HUB_LISTEN_HOST", raising=False)
    assert listen_host() == "127.0.0.1"


def test_a_name_that_is_not_known_here_ends_the_hub_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HUB_LISTEN_HOST", "edge-hub.invalid")
    with pytest.raises(SystemExit, match=r"BINDERY_HUB_LISTEN_HOST is 'edge-hub.invalid', which is no address"):
        listen_host()

"""Where the hub listens."""

import pytest

from deploy.jupyterhub.configuration import listen_url


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HUB_PORT", "8081")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.1.2.3", "http://10.1.2.3:8081"),
        ("localhost", "http://localhost:8081"),
        ("::1", "http://[::1]:8081"),
        ("[::1]", "http://[::1]:8081"),
    ],
)
def test_the_hub_listens_on_an_address_or_a_name_that_is_known_here(
    host: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_HUB_LISTEN_HOST", host)
    assert listen_url() == url


def test_without_a_setting_the_hub_listens_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERY_HUB_LISTEN_HOST", raising=False)
    assert listen_url() == "http://127.0.0.1:8081"


def test_a_name_that_is_not_known_here_ends_the_hub_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HUB_LISTEN_HOST", "edge-hub.invalid")
    with pytest.raises(SystemExit, match=r"BINDERY_HUB_LISTEN_HOST is 'edge-hub.invalid', which is no address"):
        listen_url()

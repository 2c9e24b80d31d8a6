"""A hub below a path: its own route is there, too."""

from pathlib import Path

import pytest
from jupyterhub.app import JupyterHub
from traitlets.config import Config

from deploy.jupyterhub.configuration import configure_traefik


@pytest.mark.parametrize(
    ("bind_url", "base_url"),
    [
        ("http://127.0.0.1:8000", "/"),
        ("http://127.0.0.1:8000/", "/"),
        ("http://127.0.0.1:8000/jupyter", "/jupyter/"),
        ("http://127.0.0.1:8000/jupyter/", "/jupyter/"),
    ],
)
def test_requests_for_the_api_of_a_hub_below_a_path_lead_to_the_hub(
    bind_url: str, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_HUB_BIND_URL", bind_url)
    monkeypatch.setenv("BINDERY_ENDED_SERVERS_URL", "http://127.0.0.1:8585/ended")
    monkeypatch.setenv("BINDERY_PROXY_RULES_FILE", str(tmp_path / "rules.yaml"))
    for name in ("URL", "USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"BINDERY_PROXY_API_{name}", "http://127.0.0.1:8099")
    c = Config()
    configure_traefik(c)
    c.JupyterHub.bind_url = bind_url
    hub = JupyterHub(config=c)
    assert (hub.base_url, hub.hub_routespec) == (base_url, f"{base_url}hub/api/")
    assert hub.hub_routespec == f"{hub.hub_prefix}api/"

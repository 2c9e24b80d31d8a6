"""What each part of the embedded stack sees: the variables that it reads, and no secret of another part."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from deploy.local.components import Component
from deploy.local.installation import open_installation
from deploy.local.plan import plan_components
from deploy.local.settings import Settings, StartupError
from deploy.local.variables import read_by, shared_environment
from tests.support.ports import planned_ports


def _planned(settings: Settings, environ: dict[str, str]) -> list[Component]:
    installation = open_installation(settings.data_dir)
    return plan_components(settings, installation, httpx.AsyncClient(), environ, planned_ports(settings))


@pytest.mark.parametrize(("host", "servers"), [("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")])
def test_servers_are_opened_under_another_name_than_the_gateway(tmp_path: Path, host: str, servers: str) -> None:
    settings = Settings(data_dir=tmp_path, host=host)
    parts = {p.name: p for p in _planned(settings, {})}
    environment = parts["gateway"].environment
    assert urlsplit(environment["BINDERY_PUBLIC_URL"]).hostname == host
    assert urlsplit(environment["BINDERY_HUB_URL"]).hostname == servers
    assert environment["BINDERY_HUB_URL"] == parts["launcher"].environment["BINDERY_HUB_URL"]


@pytest.mark.parametrize("variables", [{}, {"BINDERY_START_TOKEN": "of-the-environment"}])
def test_gateways_alone_know_the_start_token(tmp_path: Path, variables: dict[str, str]) -> None:
    settings = Settings(data_dir=tmp_path, gateways=2, start_token=SecretStr("of-the-environment"))
    parts = _planned(settings, variables)
    names = {part.name for part in parts if "of-the-environment" in str([*part.environment.values(), *part.command])}
    assert names == {"gateway", "gateway-2"}


@pytest.mark.parametrize("name", ["UV_INDEX_LAB_PASSWORD", "RATTLER_AUTH_FILE"])
def test_workers_alone_know_the_credentials_of_packages(tmp_path: Path, name: str) -> None:
    parts = _planned(Settings(data_dir=tmp_path), {name: "of-the-user"})
    assert {part.name for part in parts if "of-the-user" in part.environment.values()} == {"worker"}


def test_only_the_hub_gets_a_kubeconfig_and_only_where_it_starts_pods(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": "/k"}
    for executor, names in (("kubernetes", {"hub"}), ("process", set())):
        settings = Settings(data_dir=tmp_path, executor=executor)
        parts = plan_components(
            settings, open_installation(tmp_path), httpx.AsyncClient(), environ, planned_ports(settings)
        )
        assert {part.name for part in parts if "KUBECONFIG" in part.environment} == names
        hub = next(part for part in parts if part.name == "hub").environment
        assert (hub["BINDERY_SPAWNER"], hub["BINDERY_HUB_STOPS_SERVERS"]) == (executor, str(bool(names)).lower())


def test_a_prefix_that_redis_would_read_as_a_pattern_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    environ = {"PATH": "/bin", "BINDERY_REDIS_PREFIX": "bind*"}
    with pytest.raises(StartupError, match=r"BINDERY_REDIS_PREFIX: 'bind\*:[0-9a-f]{12}' can't be the prefix"):
        plan_components(settings, open_installation(tmp_path), httpx.AsyncClient(), environ, planned_ports(settings))


def test_the_users_of_redis_have_the_prefix_that_the_services_have(tmp_path: Path) -> None:
    environ = {"PATH": "/bin", "BINDERY_REDIS_PREFIX": "lab"}
    settings = Settings(data_dir=tmp_path)
    installation = open_installation(tmp_path)
    parts = plan_components(settings, installation, httpx.AsyncClient(), environ, planned_ports(settings))
    assert {part.environment.get("BINDERY_REDIS_PREFIX") for part in parts if part.after == ("redis",)} == {"lab"}
    users = (tmp_path / "redis" / "users.acl").read_text()
    assert f"~lab:{installation.installation_id}:{{queue}}:jobs " in users
    assert "bindery:" not in users


def test_parts_see_only_what_they_need(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, workers=2, gateways=2)
    installation = open_installation(tmp_path)
    environ = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "BINDERY_GITHUB_URL": "http://forge", "https_proxy": "p"}
    parts = {
        p.name: p
        for p in plan_components(settings, installation, httpx.AsyncClient(), environ, planned_ports(settings))
    }
    assert {"redis", "proxy", "hub", "culler", "worker", "worker-2", "gateway", "gateway-2"} < set(parts)
    assert parts["gateway-2"].environment["BINDERY_LISTEN_PORT"] == "8586"
    secrets = {
        name: {part_name for part_name, part in parts.items() if secret in str(sorted(part.environment.items()))}
        for name, secret in vars(installation).items()
    }
    services = set(parts) - {"redis", "proxy", "hub", "culler"}
    assert secrets["service_token"] == services
    for user in ("gateway", "resolver", "builder", "worker", "launcher"):
        assert secrets[f"redis_{user}_password"] == {name for name in services if name.partition("-")[0] == user}
    assert secrets["redis_health_password"] == secrets["redis_admin_password"] == set()
    assert secrets["installation_secret"] == {"launcher", "gateway", "gateway-2"}
    assert secrets["hub_api_token"] == {"hub", "launcher"}
    assert secrets["culler_api_token"] == {"hub", "culler"}
    assert secrets["proxy_api_password"] == secrets["hub_crypt_key"] == {"hub"}
    for part in parts.values():
        assert "AWS_SECRET_ACCESS_KEY" not in part.environment
        assert part.environment["https_proxy"] == "p"
        assert not any(secret in " ".join(part.command) for secret in list(vars(installation).values())[1:])
    assert parts["resolver"].environment["BINDERY_GITHUB_URL"] == "http://forge"
    assert "BINDERY_GITHUB_URL" not in parts["redis"].environment
    sockets = {name: part.environment.get("BINDERY_LISTEN_SOCKET", "") for name, part in parts.items()}
    assert {name for name, socket in sockets.items() if socket} == services - {"gateway", "gateway-2"}
    assert {Path(socket).stem for socket in sockets.values() if socket} == services - {"gateway", "gateway-2"}


WHO_READS = {
    "BINDERY_GITHUB_ACCESS_TOKEN": {"resolver", "worker", "worker-2"},
    "BINDERY_GITLABS": {"resolver", "worker", "worker-2"},
    "BINDERY_GITHUB_CLIENT_SECRET": {"resolver"},
    "BINDERY_GIT_CREDENTIALS": {"resolver", "worker", "worker-2"},
    "BINDERY_REGISTRY_CREDENTIALS": {"builder", "worker", "worker-2"},
    "BINDERY_OUTBOUND_PROXY": {"resolver", "builder", "worker", "worker-2"},
    "BINDERY_OPERATOR_TOKEN": {"builder", "resolver"},
    "BINDERY_HUB_CONFIG_FILE": {"hub"},
    "BINDERY_CONFIG_FILE": {"resolver", "builder", "launcher", "worker", "worker-2", "gateway"},
    "BINDERY_OF_NOBODY": set(),
    "UV_INDEX_HOUSE_PASSWORD": {"worker", "worker-2"},
    "PIP_INDEX_URL": {"worker", "worker-2"},
    "GIT_SSL_CAINFO": {"resolver", "builder", "worker", "worker-2"},
}


@pytest.mark.parametrize("name", WHO_READS)
def test_a_variable_reaches_the_parts_that_read_it_alone(tmp_path: Path, name: str) -> None:
    settings = Settings(data_dir=tmp_path, workers=2)
    environ = dict.fromkeys(WHO_READS, "said by the user")
    parts = plan_components(
        settings, open_installation(tmp_path), httpx.AsyncClient(), environ, planned_ports(settings)
    )
    assert {part.name for part in parts if part.environment.get(name) == "said by the user"} == WHO_READS[name]


def test_a_part_gets_what_the_user_names_for_it_and_no_other_part_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = '{"hub": ["LDAP_PASSWORD"], "worker": ["BINDERY_OF_A_PLUGIN"], "proxy": ["GODEBUG"]}'
    monkeypatch.setenv("BINDERY_PART_ENVIRONMENT", named)
    settings = Settings(data_dir=tmp_path, workers=2)
    environ = {"LDAP_PASSWORD": "l", "BINDERY_OF_A_PLUGIN": "b", "GODEBUG": "g", "OTHER": "o"}
    parts = plan_components(
        settings, open_installation(tmp_path), httpx.AsyncClient(), environ, planned_ports(settings)
    )
    names = {name: {part.name for part in parts if name in part.environment} for name in environ}
    assert names == {
        "LDAP_PASSWORD": {"hub"}, "BINDERY_OF_A_PLUGIN": {"worker", "worker-2"}, "GODEBUG": {"proxy"}, "OTHER": set(),
    }  # fmt: skip


def test_nobody_is_told_what_it_does_not_read(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    parts = plan_components(settings, open_installation(tmp_path), httpx.AsyncClient(), {}, planned_ports(settings))
    for part in parts:
        assert {name for name in part.environment if name.startswith("BINDERY_")} <= read_by(part.name)


@pytest.mark.parametrize(
    ("variables", "stop_timeout", "drain"), [({}, 10, "3"), ({}, 4, "2"), ({"BINDERY_DRAIN_SECONDS": "60"}, 10, "60")]
)
def test_open_streams_end_before_their_gateway_is_killed(
    tmp_path: Path, variables: dict[str, str], stop_timeout: float, drain: str
) -> None:
    settings = Settings(data_dir=tmp_path, stop_timeout_seconds=stop_timeout)
    parts = plan_components(
        settings,
        open_installation(tmp_path),
        httpx.AsyncClient(),
        {"PATH": "/bin"} | variables,
        planned_ports(settings),
    )
    (gateway,) = (part for part in parts if part.name == "gateway")
    assert gateway.environment["BINDERY_DRAIN_SECONDS"] == drain


def test_our_own_programs_come_first() -> None:
    first, _, rest = shared_environment({"PATH": "/usr/bin"})["PATH"].partition(":")
    assert (Path(first) / "python").exists()
    assert rest == "/usr/bin"


def test_a_proxy_of_the_user_is_not_asked_for_our_own_parts() -> None:
    environment = shared_environment({"HTTP_PROXY": "http://proxy", "NO_PROXY": "intranet"})
    assert environment["HTTP_PROXY"] == "http://proxy"
    assert environment["no_proxy"] == environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"

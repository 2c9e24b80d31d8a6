"""docker-compose.yml: what each container may do and reach, and that `.env.example` explains every setting."""

import re
from typing import Any

import pytest
import yaml

from deploy.compose import env_file
from deploy.compose.__main__ import CHECKOUT, MOUNTED_FILES
from deploy.compose.service_secrets import completed, environments
from docs.generate.variables import documented_variables

TEXT = (CHECKOUT / "docker-compose.yml").read_text()
SETTINGS = (CHECKOUT / "docs" / "settings.md").read_text()
EXAMPLE = (CHECKOUT / ".env.example").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
IMAGES = CHECKOUT / "deploy" / "images"
OURS = {"gateway", "resolver", "builder", "builder-worker", "launcher", "jupyterhub", "repo2docker"}
WITH_ENGINE = {"builder", "builder-worker", "jupyterhub"}


def networks(service: str) -> set[str]:
    return set(SERVICES[service].get("networks", ()))


def settings_of_the_file() -> dict[str, str]:
    """Return each variable that Compose replaces, or passes on, with its default; those it passes on have none."""
    found = re.findall(r"\$\{([A-Z][A-Z0-9_]*)(?::?[-?]((?:[^{}]|\{[^{}]*\})*))?\}", re.sub(r"\$\$.", "", TEXT))
    nested = re.findall(r"\$\{(BINDERY_(?:PORT|REGISTRY_PORT)):-(\d+)\}", TEXT)
    replaced = {name: default for name, default in [*found, *nested] if name != "COMPOSE_PROJECT_NAME"}
    return replaced | dict.fromkeys(passed_on(), "")


def passed_on() -> set[str]:
    """Return the variables that containers get as `.env` has them, and do not get if it has none."""
    environments = [service.get("environment", {}) for service in SERVICES.values()]
    return {name for environment in environments for name, value in environment.items() if value is None}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_container_has_no_more_rights_than_it_needs(service: str) -> None:
    container = SERVICES[service]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges"]
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert container["logging"]["options"]["max-size"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(container)
    assert container.get("user") == "10001:10001" or service in OURS - {"repo2docker"}  # their images say it


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_killed_programs_leave_behind_is_removed_by_the_first_process(service: str) -> None:
    assert SERVICES[service]["init"] is True


@pytest.mark.parametrize("service", sorted(WITH_ENGINE - {"jupyterhub"}))
def test_builds_run_as_a_user_who_has_the_sockets_group_and_is_not_root(service: str) -> None:
    environment = SERVICES[service]["environment"]
    assert environment["BINDERY_DOCKER_BUILD_USER"] == "10001:10001"
    assert environment["BINDERY_DOCKER_BUILD_GROUP"] == "${DOCKER_GID}"
    assert SERVICES[service]["group_add"] == ["${DOCKER_GID:?run make compose-secrets first}"]


@pytest.mark.parametrize("service", sorted(OURS - {"repo2docker"}))
def test_why_a_start_is_refused_is_shown_until_the_container_is_unhealthy(service: str) -> None:
    health = SERVICES[service]["healthcheck"]
    assert "start_period" not in health, "for as long a container is not unhealthy, whatever its probes say"
    seconds = int(health["retries"]) * int(health["interval"].removesuffix("s"))
    assert float(SERVICES[service]["environment"]["BINDERY_START_PROBLEM_SHOWN_SECONDS"]) > seconds


def test_every_image_of_ours_is_built_from_the_target_of_its_name() -> None:
    stages = set(re.findall(r"^FROM .* AS (\S+)$", (IMAGES / "Dockerfile").read_text(), re.MULTILINE))
    built: dict[str, dict[str, Any]] = {}
    for service in sorted(OURS, key=lambda name: "build" not in SERVICES[name]):
        image = re.fullmatch(r"\$\{BINDERY_IMAGES:-\S+?\}([\w-]+):\$\{BINDERY_TAG:-local\}", SERVICES[service]["image"])
        assert image, service
        built[image[1]] = SERVICES[service].get("build") or built[image[1]]
    assert built.pop("repo2docker")["context"] == "deploy/images/repo2docker"
    assert {image: build["target"] for image, build in built.items()} == {image: image for image in built}
    assert built.keys() <= stages


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"repo2docker"}))
def test_a_container_is_started_again_and_its_health_is_asked(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert service in OURS or SERVICES[service]["healthcheck"]["test"]


def test_only_the_engines_clients_have_its_socket_and_its_group() -> None:
    assert {name for name, service in SERVICES.items() if "docker.sock" in str(service["volumes"])} == WITH_ENGINE
    assert {name for name, service in SERVICES.items() if "group_add" in service} == WITH_ENGINE


def test_where_users_servers_are_there_is_nothing_but_the_hub_and_the_proxy() -> None:
    assert {name for name in SERVICES if "servers" in networks(name)} == {"jupyterhub", "proxy"}


def test_hub_and_proxy_listen_by_names_that_they_have_in_the_other_network_alone() -> None:
    hub, proxy = SERVICES["jupyterhub"], SERVICES["proxy"]
    assert hub["networks"] == {"edge": {"aliases": ["edge-hub"]}, "servers": {}}
    assert proxy["networks"] == {"edge": {"aliases": ["edge-proxy"]}, "servers": {}}
    assert hub["environment"]["BINDERY_HUB_LISTEN_HOST"] == "edge-hub"
    addresses = [option for option in proxy["command"] if re.match(r"--entrypoints\.\w+\.address=", option)]
    assert len(addresses) == 3
    assert all("=edge-proxy:" in option for option in addresses)


def test_redis_is_in_a_network_without_a_way_out_and_the_registry_apart_from_it() -> None:
    assert networks("redis") == {"data"}
    assert FILE["networks"]["data"] == {"internal": True}
    assert networks("registry") == {"images"}
    assert {name for name in SERVICES if "images" in networks(name)} == {"builder", "builder-worker", "registry"}


def test_the_published_port_leads_to_the_network_that_the_proxy_listens_in() -> None:
    names = [FILE["networks"][name]["name"] for name in ("edge", "servers")]
    assert names == sorted(names)


def test_one_port_is_published_and_the_others_only_on_loopback_or_with_a_profile() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"proxy", "registry", "tls"}
    assert published["proxy"] == ["${BINDERY_LISTEN:-127.0.0.1}:${BINDERY_PORT:-8585}:8080"]
    assert published["registry"] == ["127.0.0.1:${BINDERY_REGISTRY_PORT:-5000}:5000"]
    assert SERVICES["tls"]["profiles"] == ["tls"]


def test_each_container_has_the_file_of_its_secrets_that_the_command_makes() -> None:
    made = {f"secrets/{name}.env" for name in environments(completed({}), "")}
    assert {service["env_file"] for service in SERVICES.values() if "env_file" in service} == made


def test_no_secret_is_in_the_file() -> None:
    secrets = {name for variables in environments(completed({}), "{}").values() for name in variables}
    assert not secrets & {name for service in SERVICES.values() for name in service.get("environment", ())}


def test_the_services_know_every_variable() -> None:
    names = {name for service in SERVICES.values() for name in service.get("environment", ())}
    names |= {name for variables in environments(completed({}), "{}").values() for name in variables}
    assert {name for name in names if name.startswith("BINDERY_")} <= documented_variables()


def test_every_setting_of_the_file_is_explained_in_the_example_with_its_default() -> None:
    commented = env_file.parse(re.sub(r"^#(?=[A-Z])", "", EXAMPLE, flags=re.MULTILINE))
    for name in ("COMPOSE_PROFILES", "BINDERY_REGISTRY_USERNAME", "BINDERY_REGISTRY_PASSWORD"):
        commented.pop(name)  # for Compose itself, and for the command that makes the secrets
    used = settings_of_the_file()
    assert commented.keys() == used.keys()

    differently = {"BINDERY_IMAGE_PREFIX", "BINDERY_REGISTRY_URL", "DOCKER_GID"}  # of another registry, and looked up
    differently |= passed_on()  # the default is the setting's own
    plain = {name: default for name, default in used.items() if "${" not in default and name not in differently}
    assert {name: commented[name] for name in plain} == plain
    defaults = dict(line.split(" | ")[:2] for line in SETTINGS.splitlines() if line.startswith("| `BINDERY_"))
    for name in passed_on():
        assert f"`{commented[name]}`" in defaults[f"| `{name}`"] or not commented[name], name


def test_a_variable_that_says_who_may_launch_is_not_emptied_over_the_settings_file() -> None:
    assert {"BINDERY_START_TOKEN", "BINDERY_ALLOWED_ORIGINS", "BINDERY_ALLOWED_NETWORKS"} <= passed_on()


def test_what_containers_read_of_the_checkout_is_let_them_by_the_command() -> None:
    mounted = re.findall(r"\./(deploy/compose/[\w.]+)", TEXT)
    assert set(mounted) == set(MOUNTED_FILES)


def test_the_example_says_something_about_each_setting() -> None:
    paragraphs = EXAMPLE.split("\n\n")
    silent = [
        text for text in paragraphs if re.search(r"^#?[A-Z_]+=", text, re.MULTILINE) and not re.match(r"# \S", text)
    ]
    assert not silent

"""The mixin of all spawners: a server's arguments and what a launch may ask for."""

import re
from typing import Any

import pytest
from tornado.web import HTTPError

from deploy.jupyterhub.container_spawner import ANY_JUPYTER
from deploy.jupyterhub.docker_spawner import BinderDockerSpawner
from deploy.jupyterhub.kept_token import CONFIGURATION
from tests.support.spawners import OPTIONS, message_of, spawner_of


def arguments(**settings: Any) -> dict[str, str]:
    """A server's arguments, by name."""
    options = spawner_of(BinderDockerSpawner, **settings).get_args()
    return dict(option.removeprefix("--").split("=", 1) for option in options)


def test_notebook_6_gets_every_argument_under_the_name_that_it_knows() -> None:
    values = arguments(cors_allow_origin="https://a.example", default_url="/doc/tree/index.ipynb")
    for name, value in {
        "base_url": "/user/ann/",
        "port": "8888",
        "trust_xheaders": "True",
        "allow_origin": "https://a.example",
        "default_url": "/doc/tree/index.ipynb",
    }.items():
        assert values[f"ServerApp.{name}"] == value
        assert values[f"NotebookApp.{name}"] == value


def test_a_spawner_of_its_own_images_gives_each_argument_once() -> None:
    assert {name.partition(".")[0] for name in arguments(has_notebook_app_args=False)} == {"ServerApp"}


@pytest.mark.parametrize(
    ("origins", "allowed", "refused"),
    [
        ("*", ["https://a.example", "http://evil.example"], []),
        ("https://a.example/", ["https://a.example"], ["https://b.example"]),
        (
            "https://a.example, https://b.example",
            ["https://a.example", "https://b.example"],
            ["https://a.example.evil.example", "https://aXexample", "https://c.example"],
        ),
        ("", [], ["https://a.example"]),
    ],
)
@pytest.mark.parametrize("app", ["ServerApp", "NotebookApp"])
def test_only_pages_of_allowed_origins_may_use_a_server(
    app: str, origins: str, allowed: list[str], refused: list[str]
) -> None:
    values = arguments(cors_allow_origin=origins)
    exact_origin = values.get(f"{app}.allow_origin")
    pattern = values.get(f"{app}.allow_origin_pat")

    def is_allowed(origin: str) -> bool:  # as jupyter_server's handlers decide it
        return exact_origin in ("*", origin) or bool(pattern and re.match(pattern, origin))

    assert all(map(is_allowed, allowed))
    assert not any(map(is_allowed, refused))


@pytest.mark.parametrize("missing", ["image", "token"])
def test_a_launch_without_image_or_token_is_refused(missing: str) -> None:
    spawner = spawner_of(BinderDockerSpawner)
    spawner.user_options = {name: value for name, value in OPTIONS.items() if name != missing}
    with pytest.raises(HTTPError) as raised:
        spawner.apply_binder_options()
    assert raised.value.status_code == 400
    assert f"user_options.{missing} is missing" in message_of(raised.value)


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"memory_limit": 0}, "memory_limit is not a number above zero: 0"),
        ({"gpus": True}, "gpus is not a number above zero: True"),
        ({"disk": 1}, "has an unknown key: disk"),
        ([1], "is not an object"),
    ],
)
def test_resources_that_make_no_sense_are_refused_by_name(resources: Any, says: str) -> None:
    with pytest.raises(HTTPError) as raised:
        spawner_of(BinderDockerSpawner, resources=resources)
    assert raised.value.status_code == 400
    assert says in message_of(raised.value)


def test_a_server_with_a_token_of_its_own_gets_none_of_the_hubs() -> None:
    names = {"JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"}
    assert not names & spawner_of(BinderDockerSpawner).get_env().keys()
    assert names <= spawner_of(BinderDockerSpawner, auth_enabled=True).get_env().keys()
    options = {"environment": {"JPY_API_TOKEN": "the-operators"}}
    assert spawner_of(BinderDockerSpawner, **options).get_env()["JPY_API_TOKEN"] == "the-operators"


@pytest.mark.parametrize("command", [["jupyter-server"], ["/opt/start.sh", "--x={y}"]])
def test_a_command_that_is_configured_keeps_the_token_as_well(command: list[str]) -> None:
    spawner = spawner_of(BinderDockerSpawner, cmd=command)
    spawner.apply_binder_options()  # the hub does so before a start, and the start again
    assert spawner.cmd[:2] == ["/bin/sh", "-c"]
    assert spawner.cmd[-len(command) :] == command
    assert spawner.cmd.count(CONFIGURATION) == 1
    ours = "".join(ANY_JUPYTER)
    assert "the-token" not in ours
    assert not any(mark in ours for mark in ("{", "$(", "$$"))  # a spawner or the kubelet would replace them


def test_with_hub_authentication_a_server_needs_no_token_and_runs_jupyterhubs_own_command() -> None:
    spawner = spawner_of(BinderDockerSpawner, auth_enabled=True, cors_allow_origin="*")
    spawner.user_options = {"image": "r:1"}
    spawner.apply_binder_options()
    assert "JUPYTER_TOKEN" not in spawner.get_env()
    assert not any("base_url" in argument or "allow_origin" in argument for argument in spawner.get_args())
    assert not spawner.cmd  # the image's own

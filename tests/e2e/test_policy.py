"""The live policy of a whole Bindery with two gateways, as its operator changes it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bindery.cli import main
from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.forge import Forge
from tests.support.leftovers import leave_nothing
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

TOKEN = "the operator's token"
OPERATOR = {"Bindery-Operator-Token": TOKEN}
REASON = "It mines coins."


@pytest.fixture(scope="module")
def two_gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("policy")
    with Stack(
        folder / "data",
        base_packages=quick_jupyter_wheel(folder),
        gateways=2,
        operator_token=TOKEN,
        build_cancel_grace_seconds=0.2,
        reap_interval_seconds=0.5,
        linger_seconds=1,
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


@pytest.fixture
def stack(two_gateways: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack, for commands too; after the test it has no live rule and nothing runs."""
    monkeypatch.setenv("BINDERY_GATEWAY_URL", two_gateways.url)
    monkeypatch.setenv("BINDERY_START_TOKEN", two_gateways.start_token)
    monkeypatch.setenv("BINDERY_OPERATOR_TOKEN", TOKEN)
    yield two_gateways
    for rule in policy(two_gateways)["rules"]:
        assert main(["policy", "remove", rule["id"]]) == 0
    leave_nothing(two_gateways)


def policy(stack: Stack, path: str = "", gateway: int = 0) -> Any:
    reply = stack.client.get(f"{stack.gateway_url(gateway)}/api/v1/admin/policy{path}", headers=OPERATOR)
    assert reply.status_code == 200, reply.text
    return reply.json()


def refusal_of(stack: Stack, spec: str) -> str:
    """Launch what is banned, and return the sentence that its user reads."""
    launch = ApiLaunch.begin(stack, spec)
    launch.stream.outcome()
    problem = launch.problem()
    assert problem["code"] == "banned", problem
    return str(problem["detail"])


def test_a_ban_by_the_command_line_holds_for_an_image_that_exists(
    stack: Stack, forge: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = forge.create_repo("spammer", "miner", {"README.md": ""})
    spec = git_spec(f"{forge.url}/spammer/miner", sha)
    first = ApiLaunch.begin(stack, spec)
    first.stream.until("ready")

    pattern = f"git/{git_spec(f'{forge.url}/spammer/', '').rstrip('/')}"
    assert main(["ban", pattern, "--reason", REASON, "--for", "1h"]) == 0
    assert REASON in capsys.readouterr().out
    assert refusal_of(stack, spec).endswith(f"is not allowed to launch here. {REASON}")

    assert main(["policy", "why", f"git/{spec}"]) == 1
    (rule,) = policy(stack, gateway=1)["rules"]
    assert rule["id"] in capsys.readouterr().out
    assert main(["policy"]) == main(["policy", "audit"]) == 0
    assert f"added {rule['id']}" in capsys.readouterr().out

    assert main(["policy", "remove", rule["id"], "--reason", "It was cleaned up."]) == 0
    again = ApiLaunch.begin(stack, spec)
    again.stream.until("ready")
    assert policy(stack, "/audit?limit=1")[0]["reason"] == "It was cleaned up."
    assert stack.refused_by_redis() == []


def begin_at(stack: Stack, gateway: int, spec: str) -> ApiLaunch:
    body = {"provider": "git", "spec": spec}
    reply = stack.client.post(f"{stack.gateway_url(gateway)}/api/v1/launches", json=body)
    assert reply.status_code == 202, reply.text
    launch_id = reply.json()["launch_id"]
    return ApiLaunch(stack, launch_id, stack.follow(launch_id, gateway))


def ban_owner(forge: Forge, owner: str, *options: str) -> None:
    pattern = git_spec(f"{forge.url}/{owner}/", "").rstrip("/")
    assert main(["ban", f"git/{pattern}", "--reason", REASON, *options]) == 0


def test_a_ban_ends_the_launches_of_both_gateways_and_their_build(stack: Stack, forge: Forge, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"#!/bin/sh\necho it runs\nwhile [ ! -e '{gate}' ]; do sleep 0.05; done\n"
    for owner in ("spammer", "good"):
        forge.create_repo(owner, "waits", {"postBuild": script})
    launches = [begin_at(stack, gateway, git_spec(f"{forge.url}/spammer/waits")) for gateway in (0, 1)]
    other = begin_at(stack, 1, git_spec(f"{forge.url}/good/waits"))
    for launch in (*launches, other):
        launch.stream.until_message("it runs\n")

    ban_owner(forge, "spammer")
    for launch in launches:
        assert launch.stream.outcome()["phase"] == "failed"
        problem = launch.problem()
        assert (problem["code"], problem["detail"].endswith(REASON)) == ("banned", True), problem
    build = launches[0].view["build_id"]
    ended = f"{stack.url}/api/v1/builds/{build}"
    eventually(lambda: stack.client.get(ended).json()["state"] == "cancelled", "the build has ended")
    gate.touch()
    assert other.stream.outcome()["phase"] == "ready"


def test_a_ban_ends_running_servers_if_it_says_so(stack: Stack, forge: Forge) -> None:
    launches = {}
    for owner in ("spammer", "good"):
        forge.create_repo(owner, "runs", {"README.md": ""})
        launches[owner] = begin_at(stack, 0, git_spec(f"{forge.url}/{owner}/runs"))
        launches[owner].stream.until("ready")

    ban_owner(forge, "spammer")
    with stack.part_client("launcher") as launcher:
        assert len(launcher.get("/servers").json()) == 2
        ban_owner(forge, "spammer", "--end-servers")
        eventually(lambda: len(launcher.get("/servers").json()) == 1, "a server has ended")
    states = {owner: launch.view["server_state"] for owner, launch in launches.items()}
    assert states == {"spammer": "failed", "good": "ready"}
    eventually(lambda: sum(map(len, stack.hub_users().values())) == 1, "the hub has one server")


def test_the_api_is_the_operators_and_refuses_in_sentences(stack: Stack) -> None:
    url = f"{stack.gateway_url(1)}/api/v1/admin/policy"
    refused = stack.client.get(url)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    new_rule = {"kind": "ban", "provider": "gh", "pattern": "spammer/"}
    assert stack.client.post(f"{url}/rules", json=new_rule, headers=OPERATOR).status_code == 201
    assert stack.client.post(f"{url}/rules", json=new_rule, headers=OPERATOR).status_code == 200
    catastrophe = stack.client.post(f"{url}/rules", json=new_rule | {"pattern": "(a+)+$"}, headers=OPERATOR)
    assert catastrophe.status_code == 400
    assert catastrophe.headers["content-type"] == "application/problem+json"
    assert "in too many ways" in catastrophe.json()["detail"]
    assert stack.client.delete(f"{url}/rules/{'0' * 12}", headers=OPERATOR).status_code == 404


def test_an_emptied_redis_forgets_no_ban(stack: Stack) -> None:
    assert main(["ban", "gh/spammer/", "--reason", REASON]) == 0
    version = policy(stack)["version"]
    with stack.redis() as redis:
        redis.delete(*(key for key in stack.redis_keys() if ":policy:" in key))
    pid = stack.kill("resolver")
    stack.until_replaced("resolver", pid)

    def answers() -> bool:
        return stack.client.get(f"{stack.url}/api/v1/admin/policy", headers=OPERATOR).status_code == 200

    eventually(answers, "the new resolver answers")
    assert policy(stack)["version"] == version
    assert refusal_of_gh(stack).endswith(REASON)


def refusal_of_gh(stack: Stack) -> str:
    reply = stack.client.post(f"{stack.url}/api/v1/resolve", json={"provider": "gh", "spec": "spammer/miner/HEAD"})
    assert reply.status_code == 403, reply.text
    return str(reply.json()["detail"])

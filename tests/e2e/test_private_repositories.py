"""Launches of private repositories, from the link to the server: by the operator's token, and by one's own."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.forge import Forge
from tests.support.forge_pages import json_page
from tests.support.leftovers import leave_nothing
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

OPERATORS = "t0ken-of-the-operator"
OWN = "t0ken-of-ann-alone"


@pytest.fixture(scope="module")
def trusted(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose operator has a token for the forge."""
    folder = tmp_path_factory.mktemp("trusted")
    with Stack(
        folder / "data",
        base_packages=quick_jupyter_wheel(folder),
        github_url=forge.url,
        github_api_url=forge.api_url,
        github_access_token=OPERATORS,
        not_found_cache_seconds=0.1,
        reap_interval_seconds=0.5,
        build_cancel_grace_seconds=1,
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


@pytest.fixture
def stack(trusted: Stack, forge: Forge) -> Iterator[Stack]:
    yield trusted
    forge.git_fault = None
    forge.private.clear()
    leave_nothing(trusted)


def files_of(stack: Stack, view: dict[str, Any]) -> list[str]:
    """Return the files in the folder of a launch's server."""
    reply = stack.client.get(f"{view['url']}anything", params={"token": view["token"]})
    files: list[str] = reply.json()["files"]
    return files


def create(stack: Stack, spec: str, token: str, **body: object) -> httpx.Response:
    """Launch with one's own token."""
    body |= {"provider": "git", "spec": spec, "credential": {"password": token}}
    return stack.client.post(f"{stack.url}/api/v1/launches", json=body)


def launched(stack: Stack, reply: httpx.Response) -> ApiLaunch:
    assert reply.status_code == 202, reply.text
    launch_id = reply.json()["launch_id"]
    return ApiLaunch(stack, launch_id, stack.follow(launch_id))


def credentials_kept(stack: Stack) -> list[bytes]:
    with contextlib.closing(stack.redis()) as redis:
        kept: list[bytes] = redis.keys("*:credential:*")
        return kept


def test_the_operators_token_reads_what_is_private_and_the_launch_alone_shows_it(stack: Stack, forge: Forge) -> None:
    forge.create_repo("closed", "course", {"answers.txt": "42", "postBuild": "#!/bin/sh\necho told to few\n"})
    forge.private["closed/course"] = OPERATORS
    launch = ApiLaunch.begin(stack, "closed/course/main", provider="gh")
    view = launch.until_ended()
    assert "answers.txt" in files_of(stack, view)

    build = f"{stack.url}/api/v1/builds/{view['build_id']}"
    assert [stack.client.get(build + rest).status_code for rest in ("", "/log", "/events")] == [404] * 3
    (building,) = [event for event in launch.stream.events if "log" in event]
    assert building["log"] == f"/api/v1/launches/{launch.launch_id}/log"
    assert "told to few\n" in stack.client.get(stack.url + building["log"]).text
    with contextlib.closing(stack.redis()) as redis:
        assert redis.keys("*:fact:repo:*") + redis.keys("*:fact:built:*") + redis.keys("*:answer:*") == []

    forge.private["closed/course"] = "it is another by now"
    problem = ApiLaunch.begin(stack, "closed/course/main", provider="gh").problem()
    assert problem["code"] == "ref_not_found"


def test_ones_own_token_launches_once_and_is_nowhere_afterwards(stack: Stack, forge: Forge) -> None:
    sha = forge.create_repo(
        "ann", "thesis", {"draft.txt": "secret", "postBuild": "env; cat /proc/*/environ; ls -a ..\n"}
    )
    forge.private["ann/thesis"] = OWN
    spec = git_spec(f"{forge.url}/ann/thesis", "main")
    launch = launched(stack, create(stack, spec, OWN))
    view = launch.until_ended()
    assert view["repo"]["ref"] == sha
    assert view["repo"]["visibility"] == "private"
    assert "draft.txt" in files_of(stack, view)
    assert OWN not in json.dumps(view) + json.dumps(launch.stream.events)
    eventually(lambda: not credentials_kept(stack), "no credential is kept", 30)
    told = [path for path in stack.data_dir.rglob("*") if path.is_file() and OWN.encode() in path.read_bytes()]
    assert told == []

    again = launched(stack, create(stack, git_spec(f"{forge.url}/ann/thesis", sha), OWN))
    assert again.until_ended()["image"] == view["image"]
    eventually(lambda: not credentials_kept(stack), "no credential is kept", 30)
    refused = create(stack, spec, "another-token")
    assert (refused.status_code, refused.json()["code"]) == (404, "ref_not_found")
    assert ApiLaunch.begin(stack, git_spec(f"{forge.url}/ann/thesis", sha)).problem()["code"] == "ref_not_found"


def test_a_token_that_the_forge_does_not_know_is_refused_at_once(stack: Stack, forge: Forge) -> None:
    forge.create_repo("ann", "paper", {"a": "1"})
    forge.private["ann/paper"] = OWN
    body = {"provider": "gh", "spec": "ann/paper/main", "credential": {"username": "ann", "password": OWN}}
    for place, status in (("launches", 202), ("resolve", 200)):
        assert stack.client.post(f"{stack.url}/api/v1/{place}", json=body).status_code == status
    forge.pages["/api/repos/ann/paper/commits/main"] = json_page(401, {"message": "Bad credentials"}, {})
    reply = stack.client.post(f"{stack.url}/api/v1/launches", json=body)
    forge.pages.clear()
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert "does not accept the credential that came with the request" in reply.json()["detail"]
    assert OWN not in reply.text


def test_a_worker_that_is_killed_leaves_the_credential_to_the_next(stack: Stack, forge: Forge) -> None:
    forge.create_repo("ann", "slow", {"a": "1", "postBuild": "sleep 3\n"})
    forge.private["ann/slow"] = OWN
    launch = launched(stack, create(stack, git_spec(f"{forge.url}/ann/slow", "main"), OWN))
    launch.until("building")
    stack.kill("worker")
    launch.until_ended()
    eventually(lambda: not credentials_kept(stack), "no credential is kept", 30)


def test_a_launch_that_is_cancelled_leaves_its_credential_to_the_build_of_another(stack: Stack, forge: Forge) -> None:
    forge.create_repo("ann", "shared", {"a": "1", "postBuild": "sleep 2\n"})
    forge.private["ann/shared"] = OWN
    spec = git_spec(f"{forge.url}/ann/shared", "main")
    with stack.paused("worker"):
        first = launched(stack, create(stack, spec, OWN))
        first.until("building")
        second = launched(stack, create(stack, spec, OWN))
        second.until("building")
        assert len(credentials_kept(stack)) == 2
        first.cancel()
        first.stream.outcome()
        assert len(credentials_kept(stack)) == 2
    second.until_ended()
    eventually(lambda: not credentials_kept(stack), "no credential is kept", 30)

"""Builds that fail, each with the words that its reader needs; and builds that many wait for."""

import shutil

import pytest

from tests.e2e.conftest import POST_BUILD_TIMEOUT_SECONDS, SERVER_START_TIMEOUT_SECONDS
from tests.support.api_launches import ApiLaunch, build_of, builds_ended, git_spec, log_of
from tests.support.forge import Fault, Forge, Page
from tests.support.leftovers import processes_of
from tests.support.polling import eventually
from tests.support.stack import Stack

ORG = "builds"
FOREVER = "#!/bin/sh\necho it has begun\nsleep 1000\n"


def assert_author_must_act(launch: ApiLaunch, code: str, *sentences: str) -> None:
    problem = launch.problem()
    assert (problem["code"], problem["whose_move"], problem["phase"]) == (code, "author", "building")
    for words in sentences:
        assert words in problem["detail"]
    assert launch.build["state"] == "failed"
    assert launch.build["error"] == problem
    assert not launch.stack.hub_users()


def first_line_after_cause(launch: ApiLaunch) -> str:
    """Return the line of the build's log that the cause of its failure leads to."""
    params = {"after": launch.problem()["cause"]["after"], "lines": "1", "format": "text"}
    url = f"{launch.stack.url}/api/v1/builds/{launch.view['build_id']}/log"
    return launch.stack.client.get(url, params=params).text


def test_requirements_that_can_not_be_resolved(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "unsolvable", {"requirements.txt": "cowsay==6.0\ncowsay==6.1\n"})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/unsolvable"))
    assert_author_must_act(launch, "build_failed", "The installation of packages ended with exit status 1")
    for log in (launch.stream.text, log_of(stack, launch.view["build_id"])):
        assert "No solution found when resolving dependencies" in log
        assert "you require cowsay==6.0 and cowsay==6.1" in " ".join(log.split())
    assert launch.problem()["detail"].startswith("Because you require cowsay==6.0 and cowsay==6.1, we can conclude")
    assert first_line_after_cause(launch).startswith("  cause: Because you require cowsay==6.0")


@pytest.mark.parametrize("file", ["Dockerfile", "binder/default.nix"])
def test_a_repository_that_another_executor_can_build(stack: Stack, forge: Forge, file: str) -> None:
    name = file.rpartition("/")[2].lower().replace(".", "-")
    forge.create_repo(ORG, name, {file: "FROM scratch\n"})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/{name}"))
    sentence = f"{file}: the process executor can't build"
    assert_author_must_act(launch, "unsupported_repository", sentence, "The kubernetes and docker executors can")


def test_a_post_build_that_fails(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "fails", {"postBuild": "#!/bin/sh\necho what went wrong >&2\nexit 7\n"})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/fails"))
    assert_author_must_act(launch, "build_failed", "postBuild ended with exit status 7")
    assert "what went wrong\n" in launch.stream.text
    assert launch.problem()["detail"].startswith("what went wrong\n")
    assert first_line_after_cause(launch) == "what went wrong\n"


def test_a_post_build_that_never_ends(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "endless", {"postBuild": FOREVER})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/endless"))
    sentence = f"postBuild did not end within {POST_BUILD_TIMEOUT_SECONDS} seconds and was killed"
    assert_author_must_act(launch, "build_timeout", sentence)
    assert "it has begun\n" in launch.stream.text
    eventually(lambda: not processes_of(stack), "the postBuild is gone")


def test_a_server_that_never_answers(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "silent", {"start": FOREVER})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/silent"))
    problem = launch.problem()
    assert (problem["code"], problem["whose_move"], problem["phase"]) == ("server_start_timeout", "author", "launching")
    assert f"did not answer within {SERVER_START_TIMEOUT_SECONDS} seconds" in problem["detail"]
    assert "it has begun" in problem["detail"]
    assert launch.build["state"] == "built"
    eventually(lambda: not (stack.hub_users() or stack.sessions() or processes_of(stack)), "nothing is left of it")


def test_a_server_that_ends_at_once(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "short", {"start": "#!/bin/sh\necho this is why\nexit 1\n"})
    problem = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/short")).problem()
    assert (problem["code"], problem["whose_move"], problem["phase"]) == ("server_start_failed", "author", "launching")
    assert "ended with exit status 1" in problem["detail"]
    assert "this is why" in problem["detail"]
    eventually(lambda: not (stack.hub_users() or stack.sessions() or processes_of(stack)), "nothing is left of it")


def test_two_clients_at_once_share_a_build_and_get_a_server_each(stack: Stack, forge: Forge) -> None:
    sha = forge.create_repo(ORG, "shared", {"postBuild": "#!/bin/sh\necho once\n"})
    before = builds_ended(stack)
    forge.git_fault = gate = Fault.holding()
    spec = git_spec(f"{forge.url}/{ORG}/shared", sha)
    pair = [ApiLaunch.begin(stack, spec), ApiLaunch.begin(stack, spec)]
    for launch in pair:
        launch.until("building")
    assert pair[0].build["waiting"] == 2
    gate.release()
    views = [launch.until_ended() for launch in pair]
    assert builds_ended(stack) - before == 1
    assert views[0]["build_id"] == views[1]["build_id"]
    assert len({view["url"] for view in views}) == len(stack.hub_users()) == 2
    for launch in pair:
        assert launch.stream.messages.count("once\n") == 1


def test_a_failed_build_after_the_repository_was_mended(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "mended", {"postBuild": "#!/bin/sh\nexit 1\n"})
    spec = git_spec(f"{forge.url}/{ORG}/mended", "main")
    failed = ApiLaunch.begin(stack, spec)
    failed.until_ended("failed")
    sha = forge.commit(ORG, "mended", {"postBuild": "#!/bin/sh\nexit 0\n"})
    view = ApiLaunch.begin(stack, spec).until_ended()
    assert view["repo"]["ref"] == sha
    assert view["build_id"] != failed.view["build_id"]


def test_a_failure_is_remembered_with_its_log_until_a_rebuild_is_asked_for(stack: Stack, forge: Forge) -> None:
    """The commit stays the same; what its postBuild fetches is mended."""
    fetch = f"import urllib.request; urllib.request.urlopen('{forge.url}/{ORG}/data')"
    forge.create_repo(ORG, "fetches", {"postBuild": f'#!/bin/sh\necho fetching data\nexec python -c "{fetch}"\n'})
    spec = git_spec(f"{forge.url}/{ORG}/fetches")
    first = ApiLaunch.begin(stack, spec)
    first.until_ended("failed")
    first_id = first.view["build_id"]
    assert first_id.endswith("-1")
    forge.pages[f"/{ORG}/data"] = Page(200, {}, b"there")

    before = builds_ended(stack)
    again = ApiLaunch.begin(stack, spec)
    assert again.problem() == first.problem()
    assert again.view["build_id"] == first_id
    assert builds_ended(stack) == before
    of_build = [line for line in first.stream.messages if line in log_of(stack, first_id)]
    assert "fetching data\n" in of_build
    assert [line for line in again.stream.messages if line in log_of(stack, first_id)] == of_build

    pair = [ApiLaunch.begin(stack, spec, rebuild=first_id) for _ in range(2)]
    for rebuilt in pair:
        assert rebuilt.until_ended()["build_id"] == first_id.removesuffix("-1") + "-2"
    assert builds_ended(stack) - before == 1
    assert build_of(stack, first_id)["state"] == "failed"  # what has ended never changes


def test_an_image_that_is_gone_is_built_again_once_within_the_launch(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "gone", {"a": "a"})
    spec = git_spec(f"{forge.url}/{ORG}/gone")
    first = ApiLaunch.begin(stack, spec).until_ended()
    shutil.rmtree(stack.data_dir / "images" / first["build_id"])
    again = ApiLaunch.begin(stack, spec)
    assert again.until_ended()["image"] == first["image"]
    assert again.view["build_id"] == first["build_id"].removesuffix("-1") + "-2"
    assert again.stream.phases.count("ready") == 1

"""The main job: from a link to a kernel that runs the repository's notebook, and back to nothing.

Real parts from end to end: git over HTTP, packages from the index, JupyterLab, the hub and its idle culler.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.support.api_launches import builds_ended, git_spec
from tests.support.forge import Forge
from tests.support.kernels import first_cell, kernel
from tests.support.leftovers import Listing, assert_no_work_is_left, until_back_to
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.stack import Stack

REDIS_ROUND_TRIPS_AT_MOST = 8
HTTP_CALLS = 4
"""Of a warm launch: one to the launcher, and three to the hub (user, server, progress); nobody else is asked.

The server is asked too, through the proxy: once, or more often if the proxy learns of it later than the hub.
"""
SCRIPTS_OF_A_TRIP = 2
"""How many scripts we send together, at most: see `run_together`."""
SERVICES = ("gateway", "resolver", "builder", "worker", "launcher")
NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "A cow."},
        {
            "cell_type": "code", "id": "b", "metadata": {}, "outputs": [], "execution_count": None,
            "source": "import cowsay\nprint(cowsay.get_output_string('cow', 'Bindery'), open('data.txt').read())",
        },
    ],
}  # fmt: skip
WEB_APP = """
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

class Map(JupyterHandler):
    @authenticated
    def get(self, place):
        self.finish(f"a map of {place or 'everything'}, layer {self.get_query_argument('layer', 'none')}")

def _jupyter_server_extension_points():
    return [{"module": "a_map"}]

def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [(url_path_join(app.base_url, "map/(.*)"), Map)])
"""
ENABLE_WEB_APP = """#!/bin/sh
set -e
config=$(python -c 'import sys; print(sys.prefix)')/etc/jupyter/jupyter_server_config.d
mkdir -p "$config"
echo '{"ServerApp": {"jpserver_extensions": {"a_map": true}}}' > "$config/a_map.json"
cp a_map.py "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the packages that every environment really gets, and a culler that does not wait for long."""
    with Stack(
        tmp_path_factory.mktemp("main-job") / "data",
        idle_timeout_seconds=10,
        cull_every_seconds=1,
        server_poll_seconds=1,
        reap_interval_seconds=1,
        finished_stream_seconds=1,
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


def calls(stack: Stack) -> Counter[tuple[str, str]]:
    """Return every Redis round trip and HTTP call so far, by what is called and on whose behalf: `("redis", "work")`.

    What is counted as made for a launch, and what as upkeep, stands in services/common/service/call_accounting.py.
    JupyterHub's own work is the hub's, not ours; each of our calls of its API counts, the progress stream too. Calls
    through its proxy are counted as `("proxy", "work")`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for part in SERVICES:
        for line in stack.metrics(part):
            match = re.fullmatch(r"bindery_(redis|http)_\w+_total\{(.*)\} (\S+)", line)
            if match and (doing := re.search(r'doing="(\w+)"', match[2])):
                peer = "proxy" if 'peer="proxy"' in match[2] else match[1]
                counts[peer, doing[1]] += int(float(match[3]))
    return counts


def redis_commands(stack: Stack) -> tuple[int, int]:
    """Return how many commands Redis itself has carried out, those of scripts included; and how many scripts."""
    with contextlib.closing(stack.redis()) as redis:
        calls = {name: int(entry["calls"]) for name, entry in redis.info("commandstats").items()}
    return sum(calls.values()), calls["cmdstat_evalsha"] + calls["cmdstat_evalsha_ro"]


def writes_of_launch(stack: Stack, launch_id: str) -> int:
    """Count the writes of the launch's record and its server's, as their scripts have numbered them."""
    prefix = f"bindery:{stack.installation['installation_id']}"
    with contextlib.closing(stack.redis()) as redis:
        launch = redis.hgetall(f"{prefix}:{{l:{launch_id}}}:record")
        server_id = json.loads(launch[b"body"])["server_id"]
        return int(launch[b"seq"]) + int(redis.hget(f"{prefix}:{{s:{server_id}}}:record", "seq"))


def test_from_a_link_to_a_kernel_and_back_to_nothing(stack: Stack, forge: Forge) -> None:
    files = {"requirements.txt": "cowsay==6.1\n", "index.ipynb": json.dumps(NOTEBOOK), "data.txt": "and its data"}
    sha = forge.create_repo("e2e", "main-job", files)
    before = Listing.of(stack)
    assert before.hub_users == {}

    with stack.paused("culler"):  # a busy machine may need longer than a server may be idle
        ready = stack.facade(f"{forge.url}/e2e/main-job", sha).outcome(300)
        assert ready["phase"] == "ready", ready
        url = ready["url"]
        token = ready["token"]
        assert stack.client.get(f"{url}api/status").status_code == 403
        assert stack.client.get(f"{url}api", params={"token": token}).json()["version"]
        with kernel(url, token, "index.ipynb") as running:
            output = running.run(first_cell(url, token, "index.ipynb"))
            meanwhile = Listing.of(stack)
        assert "Bindery" in output
        assert "(oo)" in output
        assert "and its data" in output

        assert len(meanwhile.hub_users) == len(meanwhile.recorded_processes) == len(meanwhile.folders) == 1
        assert any("ipykernel_launcher" in process for process in meanwhile.processes)

        # What we count is between what Redis counts: of commands in a longer time, and of scripts in a shorter one.
        builds_before = builds_ended(stack)
        commands = redis_commands(stack)[0]
        calls_before = calls(stack)
        scripts = redis_commands(stack)[1]
        second = stack.facade(f"{forge.url}/e2e/main-job", sha)
        assert second.outcome()["phase"] == "ready"
        scripts = redis_commands(stack)[1] - scripts
        new_calls = calls(stack) - calls_before
        commands = redis_commands(stack)[0] - commands
        assert builds_ended(stack) == builds_before == 1
        assert second.phases == ["built", "launching", "ready"]
        assert second.events[-1]["url"] != url
        assert new_calls["http", "work"] == HTTP_CALLS, new_calls
        assert new_calls["proxy", "work"] >= 1
        assert writes_of_launch(stack, second.launch_id) <= new_calls["redis", "work"] <= REDIS_ROUND_TRIPS_AT_MOST, (
            new_calls
        )
        all_of_redis = sum(number for (peer, _), number in new_calls.items() if peer == "redis")
        assert scripts / SCRIPTS_OF_A_TRIP <= all_of_redis <= commands, (scripts, new_calls, commands)

        assert stack.hub_users()
    eventually(lambda: not stack.hub_users(), "the idle culler removes both servers", 120)
    link = f"{url}lab/tree/index.ipynb?token={token}"
    page = {"accept": "text/html"}
    eventually(
        lambda: "This server has ended" in stack.client.get(link, headers=page).text, "the page of ended servers"
    )
    assert stack.client.get(link, headers=page).status_code == 424
    assert stack.client.get(f"{url}api/status").json()["code"] == "server_ended"
    until_back_to(stack, before)
    assert_no_work_is_left(stack)


def test_a_link_may_open_a_web_app_of_the_repository_in_place_of_lab(stack: Stack, forge: Forge) -> None:
    files = {"a_map.py": WEB_APP, "postBuild": ENABLE_WEB_APP}
    forge.create_repo("e2e", "web-app", files)
    link = f"{stack.url}/v2/git/{git_spec(f'{forge.url}/e2e/web-app')}?urlpath={quote('map/oslo?layer=roads', safe='')}"
    browser_client = httpx.Client(trust_env=False, timeout=60, follow_redirects=True)
    with stack.paused("culler"), browser_client as browser:
        browser.get(stack.url, params={"token": stack.start_token})  # the address that `up` has printed
        form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', browser.get(link).text))
        launch = browser.post(f"{stack.url}/launches", data=form).url
        assert stack.follow(launch.path.rpartition("/")[2]).outcome(300)["phase"] == "ready"
        opened_page = browser.get(f"{launch}/open")
        assert opened_page.text == "a map of oslo, layer roads"
        app = opened_page.url.copy_with(query=None)
        assert browser.get(app).text == "a map of oslo, layer none"  # by the cookie that it was given
        stranger = stack.client.get(app)
    assert stranger.status_code == 302
    assert "/login" in stranger.headers["location"]

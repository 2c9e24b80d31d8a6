"""Whom the real idle culler takes and whom it leaves: what the hub believes of a server's use is true."""

# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments

from datetime import UTC, datetime
from pathlib import Path

import httpx
from websockets.sync.client import connect

from tests.support.hub_fixtures import (
    cull,
    environment,  # noqa: F401
    execute,
    hub,  # noqa: F401
    idle_seconds,
    kernel_of,
    last_activity,
    nothing_is_left,  # noqa: F401
    status_of,
)
from tests.support.polling import eventually
from tests.support.real_hub import HubStack


def test_an_idle_server_is_culled_with_its_user(hub: HubStack) -> None:
    hub.serve("ned", "plain")
    eventually(lambda: idle_seconds(hub, "ned") > 3, "it has been idle for three seconds")

    def is_gone() -> bool:
        # The user goes in a pass after the one that stops the server, which takes as long as the machine needs.
        cull(hub, 2)
        return hub.call("GET", "users/ned").status_code == 404

    eventually(is_gone, "server and user are gone", seconds=60)


def test_a_server_that_answers_somebody_is_not_idle(hub: HubStack) -> None:
    hub.serve("oda", "plain")
    started = last_activity(hub, "oda")

    def is_noticed() -> bool:
        assert httpx.get(f"{hub.url}/user/oda/api/contents?token=token-of-oda").status_code == 200
        return (last_activity(hub, "oda") - started).total_seconds() > 3

    eventually(is_noticed, "its use is noticed")
    assert idle_seconds(hub, "oda") < 3


def test_asking_for_activity_does_not_count_as_activity(hub: HubStack) -> None:
    hub.serve("pia", "plain")
    kernel_of(hub, "pia")
    eventually(lambda: idle_seconds(hub, "pia") > 3, "it is idle although the hub asks it each second")


def test_a_computing_kernel_without_a_browser_is_not_idle(hub: HubStack, tmp_path: Path) -> None:
    hub.serve("quin", "plain")
    gate = tmp_path / "gate"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.1)"
    execute(hub, "quin", kernel_of(hub, "quin"), code, until_type="execute_input")
    server_says = status_of(hub, "quin")
    assert server_says["connections"] == 0
    since = datetime.now(UTC)
    eventually(lambda: (last_activity(hub, "quin") - since).total_seconds() > 3, "it is seen as active")
    cull(hub, 3)
    assert hub.server("quin") is not None
    gate.touch()
    eventually(lambda: idle_seconds(hub, "quin") > 3, "it is idle once the cell has ended")


def test_an_open_notebook_in_the_background_is_not_idle(hub: HubStack) -> None:
    hub.serve("ron", "plain")
    kernel = kernel_of(hub, "ron")
    url = f"{hub.url}/user/ron/api/kernels/{kernel}/channels?token=token-of-ron".replace("http", "ws", 1)
    with connect(url, max_size=None, open_timeout=20):
        since = datetime.now(UTC)
        eventually(lambda: (last_activity(hub, "ron") - since).total_seconds() > 3, "it is seen as active")
    eventually(lambda: idle_seconds(hub, "ron") > 3, "it is idle once the browser has left")


def test_a_hub_that_was_away_learns_of_the_use_before_the_culler_does(hub: HubStack) -> None:
    hub.serve("sue", "plain")
    hub.kill_hub()
    started = status_of(hub, "sue")["started"]

    def is_used_for_a_while() -> bool:
        httpx.get(f"{hub.url}/user/sue/api/contents?token=token-of-sue")
        used = datetime.fromisoformat(status_of(hub, "sue")["last_activity"])
        return (used - datetime.fromisoformat(started)).total_seconds() > 5

    eventually(is_used_for_a_while, "it was used while the hub was away")
    hub.start_hub()
    assert hub.server("sue") is not None
    assert (last_activity(hub, "sue") - datetime.fromisoformat(started)).total_seconds() > 4

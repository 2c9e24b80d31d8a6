"""A stack whose Redis is behind Sentinel. `python -m tests.support.sentinel_stack` is `bindery up` with that change."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import redis

from deploy.local.components import Component
from deploy.local.health import always_healthy
from deploy.local.installation import Installation, open_installation
from deploy.local.plan import plan_components
from deploy.local.ports import Ports
from deploy.local.settings import Settings
from deploy.redis.users import USERS, users_file
from tests.support.faults import Faults, running_stack
from tests.support.forge import Forge
from tests.support.planned_stack import run_stack
from tests.support.sentinel import MASTER, SENTINEL_PASSWORD, SentinelCluster, running_cluster
from tests.support.stack import Stack


class SentinelStack(Stack):
    """`bindery up` without a Redis of its own; the cluster is started before, with this data folder's passwords."""

    program = ("-m", "tests.support.sentinel_stack")
    cluster: SentinelCluster

    def redis(self) -> "redis.Redis":
        """Return a client of the present master that may do everything."""
        return self.cluster.admin(self.cluster.master)


@contextmanager
def running_sentinel_stack(forge: Forge, folder: Path, **settings: object) -> Iterator[tuple[Faults, SentinelCluster]]:
    """Run three servers, three Sentinels, and a stack on them."""
    installation = open_installation(folder / "data")
    passwords = {user: installation.redis_password(user) for user in USERS}
    users = users_file(f"bindery:{installation.installation_id}", passwords)
    with running_cluster(folder / "redis", users=users, admin_password=passwords["admin"]) as cluster:
        SentinelStack.cluster = cluster
        os.environ["TEST_SENTINELS"] = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in cluster.sentinels)
        try:
            with running_stack(forge, folder, kind=SentinelStack, **settings) as faults:
                yield faults, cluster
        finally:
            del os.environ["TEST_SENTINELS"]


def _plan(
    settings: Settings, installation: Installation, client: httpx.AsyncClient, environ: Mapping[str, str], ports: Ports
) -> list[Component]:
    components = []
    for component in plan_components(settings, installation, client, environ, ports):
        changes: dict[str, Any] = {}
        if component.name == "redis":
            waits = (sys.executable, "-c", "import signal; signal.pause()")
            changes = {"command": waits, "health": always_healthy}
        elif url := component.environment.get("BINDERY_REDIS_URL"):
            login = urlsplit(url).netloc.rpartition("@")[0]
            sentinel = {
                "BINDERY_REDIS_URL": f"redis+sentinel://{login}@{os.environ['TEST_SENTINELS']}/{MASTER}/0",
                "BINDERY_REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
            }
            changes = {"environment": {**component.environment, **sentinel}}
        components.append(replace(component, **changes))
    return components


if __name__ == "__main__":
    sys.exit(run_stack(_plan))

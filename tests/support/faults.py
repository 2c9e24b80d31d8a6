"""What the kill tests launch, and what they check afterwards."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from services.common.git.repository_url import canonical_url
from services.common.redis.families import FAMILIES
from services.common.redis.keys import Keys
from tests.support.forge import Forge
from tests.support.launching import Following
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

POST_BUILD = """#!/bin/sh
n=0
until [ -e '{gate}' ]; do n=$((n + 1)); echo "line $n"; sleep 0.05; done
echo "those were $n lines"
"""
SILENT_POST_BUILD = """#!/bin/sh
for n in $(seq 20); do echo "line $n"; done
until [ -e '{gate}' ]; do sleep 0.05; done
echo "those were 20 lines"
"""
START = """#!/bin/sh
echo begun >> '{begun}'
until [ -e '{gate}' ]; do sleep 0.05; done
exec "$@"
"""


def until_gone(condition: Any, description: str, seconds: float = 30.0) -> None:
    """Wait until `condition` gives nothing more; what it still gives is said."""
    last: list[Any] = []

    def is_empty() -> bool:
        last[:] = [condition()]
        return not last[0]

    try:
        eventually(is_empty, description, seconds)
    except AssertionError:
        raise AssertionError(f"not within {seconds:g} s: {description}; still: {last[0]}") from None


class SlowRepo:
    """A repository whose build prints numbered lines until it is released; its server starts when it is released.

    One that `is_silent` prints the first lines and then nothing until it is let go.
    """

    def __init__(
        self,
        forge: Forge,
        folder: Path,
        name: str,
        *,
        holds_build: bool = True,
        holds_server: bool = False,
        is_silent: bool = False,
    ):
        self._forge = forge
        self._name = name
        self._build_gate = folder / f"{name}.build"
        self._server_gate = folder / f"{name}.server"
        self._server_begun = folder / f"{name}.begun"
        files = {"README.md": name}
        if holds_build:
            files["binder/postBuild"] = (SILENT_POST_BUILD if is_silent else POST_BUILD).format(gate=self._build_gate)
        if holds_server:
            files["binder/start"] = START.format(gate=self._server_gate, begun=self._server_begun)
        self.sha = forge.create_repo("slow", name, files)
        self.url = f"{forge.url}/slow/{name}"

    def end_build(self) -> None:
        """Let the build go on to its end."""
        self._build_gate.touch()

    def start_server(self) -> None:
        """Let the server start."""
        self._server_gate.touch()

    def until_server_starts(self) -> None:
        """Wait until the repository's own start script runs."""
        eventually(self._server_begun.exists, "the start script")

    @property
    def server_starts(self) -> int:
        """How often the repository's own start script was run."""
        return len(self._server_begun.read_text().splitlines())

    @property
    def fetches(self) -> int:
        """How often the repository's content was fetched from the forge."""
        path = f"/slow/{self._name}/git-upload-pack"
        return len([one for one in self._forge.requests if one.path == path and b"command=fetch" in one.body])

    def assert_every_line_once(self, following: Following) -> int:
        """Check that no line of the build is missing, and none was told twice; returns how many there were."""
        lines = self.lines(following)
        last_line = next((line for line in following.text.splitlines() if line.startswith("those were ")), "")
        assert last_line, f"the end of the build was not told: {following.text[-500:]}"
        assert lines == list(range(1, int(last_line.split()[2]) + 1)), f"lost or twice: {_irregular(lines)}"
        return len(lines)

    def assert_no_line_twice(self, following: Following) -> None:
        """Check that lines came in order, and none twice."""
        lines = self.lines(following)
        assert lines == sorted(set(lines)), f"twice or out of order: {_irregular(lines)}"

    @staticmethod
    def lines(following: Following) -> list[int]:
        """Return the numbers of the lines that were told."""
        return [int(line.split()[1]) for line in following.text.splitlines() if line.startswith("line ")]


def _irregular(lines: list[int]) -> list[tuple[int, int]]:
    return [(before, after) for before, after in pairwise(lines) if after != before + 1][:20]


class Faults:
    """A running stack, and what must be true of it after each fault."""

    def __init__(self, stack: Stack, forge: Forge, folder: Path) -> None:
        self.stack = stack
        self.forge = forge
        self.folder = folder
        self.repos: list[SlowRepo] = []

    def slow_repo(self, *, holds_build: bool = True, holds_server: bool = False, is_silent: bool = False) -> SlowRepo:
        name = f"{self.folder.name}-{len(self.repos) + 1}".lower()
        repo = SlowRepo(
            self.forge, self.folder, name, holds_build=holds_build, holds_server=holds_server, is_silent=is_silent
        )
        self.repos.append(repo)
        return repo

    def launch_into_build(self, repo: SlowRepo, *, gateway: int = 0) -> Following:
        """Launch, and wait until the build is well under way."""
        following = self.stack.facade(repo.url, repo.sha, gateway=gateway)
        self.until_build_is_under_way(following)
        return following

    def until_build_is_under_way(self, following: Following) -> None:
        """Wait for a line of the build that comes when it is well under way."""
        following.until_message("line 20\n")

    def resume(self, following: Following, *, gateway: int = 0, has_news: bool = True) -> None:
        """Connect again where the stream broke off, as soon as a gateway answers, and wait for news if there is any."""
        url = self.stack.gateway_url(gateway)

        def answers() -> bool:
            try:
                return self.stack.client.get(f"{url}/health").status_code in {200, 503}
            except httpx.HTTPError:
                return False

        eventually(answers, "a gateway that answers")
        events_before = len(following.events)
        following.resume(following.url.replace(following.url.partition("/build/")[0], url))
        if has_news:
            eventually(lambda: len(following.events) > events_before, "news from the gateway")

    # What there is

    def record(self, topic: str) -> dict[str, str]:
        """Return the stored noun `{b:<id>}`, `{l:<id>}` or `{s:<id>}`."""
        with closing(self.stack.redis()) as redis:
            raw = redis.hgetall(self.key(topic))
        return {name.decode(): value.decode() for name, value in raw.items()}

    def key(self, topic: str) -> str:
        """Return the key of a record, which `topic` names like `record`."""
        return f"{self._keys.prefix}:{{{topic}}}:record"

    @property
    def prefix(self) -> str:
        """Beginning of every key of the stack."""
        return self._keys.prefix

    @property
    def _keys(self) -> Keys:
        return Keys(f"bindery:{self.stack.installation['installation_id']}")

    def build_ids(self, repo: SlowRepo) -> list[str]:
        """Return every attempt that Redis knows of at the repository's image."""
        url = canonical_url(repo.url).encode()
        with closing(self.stack.redis()) as redis:
            keys = redis.keys(f"{self._keys.prefix}:{{b:*}}:record")
            matching = [key.decode() for key in keys if redis.hget(key, "repo_url") == url]
        return sorted(key.partition("{b:")[2].partition("}")[0] for key in matching)

    def is_current(self, build_id: str) -> bool:
        """Return whether Redis knows this attempt as the one at its image."""
        image, _, number = build_id.rpartition("-")
        with closing(self.stack.redis()) as redis:
            return bool(redis.get(self._keys.attempt(image)) == number.encode())

    def part_of(self, owner: str) -> str:
        """Return the part that a lease's process name stands for."""
        pid = int(owner.rpartition("-")[0].rpartition("-")[2])
        return next(name for name, part_pid in self.stack.parts().items() if part_pid == pid)

    def owner(self, topic: str) -> str:
        """Return the name of the process that owns a record; wait while there is none."""
        process: str = eventually(lambda: self.record(topic).get("owner"), f"an owner of {topic}")
        return process

    def empty_redis(self) -> None:
        """FLUSHALL."""
        with closing(self.stack.redis()) as redis:
            redis.flushall()

    def until_reaper_is_armed(self) -> None:
        """Wait until the reaper may delete again, and has compared since."""
        disarmed_seconds = float(str(self.stack.settings["reap_disarmed_seconds"]))
        key = f"{self._keys.prefix}:installation"

        def has_compared() -> bool:
            with closing(self.stack.redis()) as redis:
                since = float(redis.get(key) or time.time())
            return time.time() - since > disarmed_seconds + 2 * float(str(self.stack.settings["reap_interval_seconds"]))

        eventually(has_compared, "a reaper that may delete")

    # What must be true

    def assert_server_answers(self, ready: dict[str, Any]) -> None:
        """Check that the launch is ready and that its server answers to its token."""
        assert ready["phase"] == "ready", ready
        reply = httpx.get(f"{ready['url']}api?token={ready['token']}", trust_env=False, timeout=10)
        assert reply.status_code == 200, reply.text

    def assert_ready_with_one_server(self, following: Following, users_before: set[str]) -> str:
        """Check that the launch ended with exactly one server and one hub user more; returns the user."""
        self.assert_server_answers(following.outcome())
        users = {name: servers for name, servers in self.stack.hub_users().items() if name not in users_before}
        assert [len(servers) for servers in users.values()] == [1], users
        (user,) = users
        assert len([session for session in self.stack.sessions() if session.startswith(f"server {user}")]) == 1
        return user

    def remove_servers(self) -> None:
        """End every server, as the culler would."""
        environ = self.stack.environment("launcher")
        headers = {"Authorization": f"token {environ['BINDERY_HUB_API_TOKEN']}"}
        for user in self.stack.hub_users():
            self.stack.client.delete(f"{environ['BINDERY_HUB_API_URL']}users/{user}", headers=headers)

    def left_in_redis(self) -> list[str]:
        """Return every key that docs/ lists as neither record nor cache, but for what says that processes live."""
        prefix = self._keys.prefix
        allowed = [f"{prefix}:{family.pattern}" for family in FAMILIES if family.nature in {"record", "cache"}]
        allowed += [f"{prefix}:{pattern}" for pattern in ("alive:*", "processes:*", "sweep:*", "slots")]
        allowed += [f"{prefix}:{{queue}}:jobs:health-check", f"{prefix}:{{b:*}}:events"]
        return sorted(
            key for key in self.stack.redis_keys() if not any(fnmatchcase(key, pattern) for pattern in allowed)
        )

    def unfinished(self) -> list[str]:
        """Return the launches and builds that go on."""
        with closing(self.stack.redis()) as redis:
            keys = redis.keys(f"{self._keys.prefix}:{{[bl]:*}}:record")
            return sorted(key.decode() for key in keys if not redis.hget(key, "final"))

    def without_expiry(self) -> list[str]:
        """Return streams and records of nouns that have ended and would stay for ever."""
        with closing(self.stack.redis()) as redis:
            final = [key for key in redis.keys(f"{self._keys.prefix}:{{[bls]:*}}:record") if redis.hget(key, "final")]
            streams = [key.replace(b":record", b":events") for key in final]
            return sorted(key.decode() for key in [*final, *streams] if redis.ttl(key) == -1)

    def end_all(self) -> None:
        """Let every build and start go on, and wait until all launches have ended."""
        for repo in self.repos:  # those of a test that failed half way
            repo.end_build()
            repo.start_server()
        until_gone(self.unfinished, "an end of every launch and build", 60)

    def assert_nothing_is_left(self) -> None:
        """Once every server is gone: no user, no process, no seat, no claim, no queue entry, no job."""
        self.end_all()
        self.remove_servers()
        until_gone(self.stack.hub_users, "no user left on the hub")
        until_gone(self.stack.sessions, "no build or server left")
        until_gone(self.left_in_redis, "only records and caches left in Redis", 60)
        until_gone(self.without_expiry, "an expiry on all that has ended")
        with closing(self.stack.redis()) as redis:
            assert not redis.keys("arq:*")


@contextmanager
def running_stack(forge: Forge, folder: Path, *, kind: type[Stack] = Stack, **settings: object) -> Iterator[Faults]:
    """Run a stack that clears up quickly, and does not give up when its parts are killed again and again.

    Its environments hold a stand-in for JupyterLab. The real one takes longer to install than most tests take, and is
    no part of Bindery; the tests from end to end use it.
    """
    quick = {
        "base_packages": quick_jupyter_wheel(folder),
        "reap_interval_seconds": 1,
        "reap_disarmed_seconds": 5,
        "relist_seconds": 2,
        "restart_limit": 50,
        "restart_delay_max_seconds": 1,
    }
    with kind(folder / "data", **(quick | settings)) as stack:
        yield Faults(stack, forge, folder)

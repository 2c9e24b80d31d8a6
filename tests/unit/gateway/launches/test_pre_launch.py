"""Pre-launch hooks: they see each launch before anything is built, and a refused launch says why."""

import asyncio
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from services.common.models import Launch, LaunchState, ResolvedRepo
from services.common.models.errors import BinderyError
from services.common.service.start import CannotStart, start_sentence
from services.gateway.launches import pre_launch
from tests.support.in_process_gateway import open_gateway
from tests.support.in_process_launcher import REPO
from tests.support.valkey import Valkey

Register = Callable[..., None]


class Point:
    """An installed entry point."""

    def __init__(self, name: str, hook: object) -> None:
        self.name = name
        self._hook = hook

    def load(self) -> object:
        return self._hook


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Have hooks installed, by name."""

    def these(**hooks: object) -> None:
        points = [Point(name, hook) for name, hook in hooks.items()]
        monkeypatch.setattr(pre_launch, "entry_points", lambda group: points if group == "bindery.pre_launch" else [])
        pre_launch.load_hooks.cache_clear()

    yield these
    pre_launch.load_hooks.cache_clear()


@pytest.mark.usefixtures("redis")
async def test_each_hook_sees_a_launch_once_before_anything_is_built(valkey: Valkey, register: Register) -> None:
    calls: list[tuple[str, str, str]] = []

    class Hook:
        def __init__(self, name: str) -> None:
            self._name = name

        async def __call__(self, launch: Launch, repo: ResolvedRepo) -> None:
            calls.append((self._name, launch.launch_id, repo.repo_url))

    register(second=Hook("second"), first=Hook("first"))
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_build(1)
        assert calls == [(name, launch.launch_id, REPO.repo_url) for name in ("first", "second")]
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        await gateway.until_ended(launch, LaunchState.CANCELLED)


async def _refuses(_launch: Launch, repo: ResolvedRepo) -> None:
    raise BinderyError("banned", f"Not today: {repo.display_name}.")


async def _breaks(_launch: Launch, _repo: ResolvedRepo) -> None:
    raise ConnectionError("the operator's own database is away")


async def _waits(_launch: Launch, _repo: ResolvedRepo) -> None:
    await asyncio.Event().wait()


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    ("hook", "code", "detail"),
    [(_refuses, "banned", "Not today: repo."), (_breaks, "internal", ""), (_waits, "internal", "")],
)
async def test_a_launch_that_a_hook_refuses_or_breaks_on_fails_and_builds_nothing(
    valkey: Valkey, register: Register, hook: Any, code: str, detail: str
) -> None:
    register(only=hook)
    async with open_gateway(valkey, pre_launch_timeout_seconds=0.2) as gateway:
        error = (await gateway.until_ended(await gateway.begin(), LaunchState.FAILED)).error
        assert error
        assert error.code == code
        assert "database" not in error.detail
        assert not detail or error.detail == detail
        assert gateway.backends.calls == ["resolve"]


def test_a_hook_that_is_not_async_is_refused_at_the_start(register: Register) -> None:
    register(plain=lambda launch, repo: None)
    with pytest.raises(CannotStart, match=r"the entry point plain of bindery\.pre_launch is no async function\."):
        pre_launch.load_hooks()


def test_a_hook_that_can_not_be_loaded_is_named(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    broken = EntryPoint("rules", "no_such_module:rules", pre_launch.ENTRY_POINTS)
    monkeypatch.setattr(pre_launch, "entry_points", lambda group: [broken])
    with pytest.raises(CannotStart) as raised:
        pre_launch.load_hooks()
    assert start_sentence(raised.value) == (
        "The gateway can't start: the entry point rules of bindery.pre_launch can't be loaded "
        "(ModuleNotFoundError: No module named 'no_such_module'). Mend or remove its package."
    )

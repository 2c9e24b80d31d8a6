"""The client of GitHub's API: what it makes of replies, and for how long it remembers them."""

import io
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.models.errors import BinderyError
from services.resolver.github_api import Commit, GitHubApi
from services.resolver.settings import ResolverSettings
from tests.support.forge import COMMIT_RECORDING, Fault, Forge, Page
from tests.support.logs import line_of
from tests.support.settings import settings_for

USER = "jupyterhub"
REPO = "zero-to-jupyterhub-k8s"
RECORDED_SHA = "4931711ef6661f45f9fbba6780200d36d735dde8"


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    """A forge without repositories: its API answers what a test puts there."""
    with Forge(tmp_path) as forge:
        yield forge


@asynccontextmanager
async def open_api(forge: Forge, **settings: object) -> AsyncIterator[GitHubApi]:
    api = GitHubApi(settings_for(ResolverSettings, github_api_url=forge.api_url, **settings))
    try:
        yield api
    finally:
        await api.aclose()


def answer(forge: Forge, ref: str, page: Page) -> None:
    forge.pages[f"/api/repos/{USER}/{REPO}/commits/{ref}"] = page


def recorded_page(**headers: str) -> Page:
    """The reply of api.github.com that was recorded, with headers changed."""
    reply = json.loads(COMMIT_RECORDING.read_text())["response"]
    return Page(200, reply["headers"] | headers, json.dumps(reply["json"]).encode())


async def test_a_recorded_reply_is_a_commit_and_its_repository(forge: Forge) -> None:
    answer(forge, "HEAD", recorded_page())
    async with open_api(forge) as api:
        assert await api.commit(USER, REPO, "HEAD") == Commit(RECORDED_SHA, f"{USER}/{REPO}")


async def test_the_repository_is_the_links_own_if_the_reply_names_none(forge: Forge) -> None:
    answer(forge, "HEAD", Page(200, {}, json.dumps({"sha": RECORDED_SHA, "html_url": "https://elsewhere"}).encode()))
    async with open_api(forge) as api:
        assert await api.commit(USER, REPO, "HEAD") == Commit(RECORDED_SHA, f"{USER}/{REPO}")


async def test_a_reply_that_has_not_changed_needs_no_body(forge: Forge) -> None:
    answer(forge, "HEAD", recorded_page(Etag='W/"one"'))
    async with open_api(forge) as api:
        commit = await api.commit(USER, REPO, "HEAD")
        answer(forge, "HEAD", Page(304))
        assert await api.commit(USER, REPO, "HEAD") == commit
    assert [request.headers.get("if-none-match") for request in forge.requests] == [None, 'W/"one"']


async def test_the_oldest_reply_is_dropped_when_the_cache_is_full(forge: Forge) -> None:
    for ref in ("a", "b"):
        answer(forge, ref, recorded_page(Etag=f'"{ref}"'))
    async with open_api(forge, ref_cache_entries=1) as api:
        for ref in ("a", "b", "b", "a"):
            await api.commit(USER, REPO, ref)
    assert [request.headers.get("if-none-match") for request in forge.requests] == [None, None, '"b"', None]


async def test_a_reply_without_a_commit_is_a_missing_one(forge: Forge) -> None:
    answer(forge, "HEAD", Page(200, {}, b"not JSON"))
    async with open_api(forge) as api:
        with pytest.raises(BinderyError, match="HEAD is not the name of a branch, tag or commit") as raised:
            await api.commit(USER, REPO, "HEAD")
    assert raised.value.code == "ref_not_found"


async def test_a_missing_commit_is_remembered_with_its_reason(forge: Forge) -> None:
    answer(forge, "new", Page(422, {}, b"{}"))
    async with open_api(forge, not_found_cache_seconds=60.0) as api:
        details = []
        for _ in range(2):
            with pytest.raises(BinderyError) as raised:
                await api.commit(USER, REPO, "new")
            details.append(raised.value.detail)
    assert details == [f"There is no branch, tag or commit new in {USER}/{REPO} on GitHub."] * 2
    assert len(forge.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds", "minutes"),
    [
        ({"Retry-After": "0"}, 1, "1 minute."),
        ({"Retry-After": "90"}, 90, "2 minutes."),
        ({"Retry-After": "99999"}, 3600, "60 minutes."),
        ({"Retry-After": "soon"}, 60, "1 minute."),
    ],
)
async def test_the_wait_at_a_limit_is_bounded(
    forge: Forge, headers: dict[str, str], seconds: float, minutes: str
) -> None:
    answer(forge, "HEAD", Page(429, headers, b"{}"))
    async with open_api(forge) as api:
        with pytest.raises(BinderyError) as raised:
            await api.commit(USER, REPO, "HEAD")
    assert raised.value.retry_after_seconds == seconds
    assert raised.value.detail == f"GitHub rate limit exceeded. Try again in {minutes}"


async def test_nothing_is_asked_before_a_limit_is_reset(forge: Forge) -> None:
    reset = str(int(time.time()) + 600)
    answer(forge, "HEAD", Page(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}, b"{}"))
    answer(forge, "other", recorded_page())
    async with open_api(forge) as api:
        for ref in ("HEAD", "other"):
            with pytest.raises(BinderyError) as raised:
                await api.commit(USER, REPO, ref)
            assert raised.value.code == "rate_limited"
            assert raised.value.retry_after_seconds == pytest.approx(600, abs=15)
    assert len(forge.requests) == 1


@pytest.mark.parametrize(("remaining", "level"), [("10", "warning"), ("40", "info"), ("50", "debug")])
async def test_the_less_is_left_of_the_limit_the_louder_is_the_log(
    forge: Forge, logs: io.StringIO, remaining: str, level: str
) -> None:
    answer(forge, "HEAD", recorded_page(**{"X-Ratelimit-Limit": "100", "X-Ratelimit-Remaining": remaining}))
    async with open_api(forge) as api:
        await api.commit(USER, REPO, "HEAD")
    line = line_of(logs, "github_rate_limit")
    assert (line["level"], line["remaining"], line["limit"]) == (level, int(remaining), 100)


async def test_a_github_that_does_not_answer_is_unavailable(forge: Forge, logs: io.StringIO) -> None:
    forge.api_fault = Fault(hold=threading.Event())
    async with open_api(forge, github_timeout_seconds=0.1) as api:
        with pytest.raises(BinderyError) as raised:
            await api.commit(USER, REPO, "HEAD")
    assert raised.value.code == "provider_unavailable"
    assert line_of(logs, "github_unreachable")["error"] == "ReadTimeout"

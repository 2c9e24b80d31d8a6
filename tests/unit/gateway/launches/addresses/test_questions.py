"""The question where a branch's name ends, and what is made of its answer."""

import asyncio
from typing import cast

import pytest

from services.common.models import RefQuestion
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.gateway.backends import Backends
from services.gateway.launches.addresses.questions import Detected, settled
from services.gateway.launches.addresses.reader import read_address
from tests.support.fake_gateway import FakeBackends
from tests.support.sample_providers import TYPES

TREE = "https://github.com/ann/notes/tree"


async def detected(address: str, backends: FakeBackends, timeout_seconds: float = 5.0) -> Detected:
    return await settled(read_address(address, TYPES), cast("Backends", backends), timeout_seconds=timeout_seconds)


async def test_a_clear_address_asks_nobody() -> None:
    backends = FakeBackends()
    found = await detected(f"{TREE}/wip", backends)
    assert (found.link.url(""), found.ref, found.is_guess) == ("v2/gh/ann/notes/wip", "wip", False)
    assert backends.questions == []


@pytest.mark.parametrize(
    ("existing", "link"),
    [
        (["wip/of/me"], "v2/gh/ann/notes/wip/of/me"),
        (["wip/of"], "v2/gh/ann/notes/wip/of?urlpath=%2Flab%2Ftree%2Fme"),
        (["wip"], "v2/gh/ann/notes/wip?urlpath=%2Flab%2Ftree%2Fof%2Fme"),
        (["wip", "wip/of", "me"], "v2/gh/ann/notes/wip/of?urlpath=%2Flab%2Ftree%2Fme"),
    ],
)
async def test_the_longest_ref_that_exists_counts_and_it_is_asked_once(existing: list[str], link: str) -> None:
    backends = FakeBackends(*existing)
    found = await detected(f"{TREE}/wip/of/me", backends)
    assert (found.link.url(""), found.notice, found.is_guess) == (link, "", False)
    assert backends.questions == [
        RefQuestion(provider="gh", repository="ann/notes", refs=("wip/of/me", "wip/of", "wip"))
    ]


async def test_none_of_the_refs_is_an_error_that_names_them() -> None:
    with pytest.raises(BinderyError) as raised:
        await detected(f"{TREE}/wip/me", FakeBackends("main"))
    assert raised.value.code == "ref_not_found"
    assert "wip/me, wip" in raised.value.detail


@pytest.mark.parametrize("ref", ["master", "main", "8c2f6a1"])
async def test_a_ref_that_no_listing_has_but_the_forge_may_know(ref: str) -> None:
    found = await detected(f"{TREE}/{ref}/src", FakeBackends("trunk"))
    assert (found.ref, found.is_guess) == (ref, False)


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("rate_limited", "github.com asks for fewer requests."),
        ("provider_unavailable", "github.com did not answer."),
        ("resolver_unavailable", "The resolver does not answer."),
        ("ref_not_found", "There is no public git repository there."),
        ("not_found", "A resolver of the release before."),
    ],
)
async def test_what_could_not_be_asked_is_told_with_the_shortest_ref(code: ErrorCode, detail: str) -> None:
    found = await detected(f"{TREE}/wip/me", FakeBackends(failure=BinderyError(code, detail)))
    assert (found.link.url(""), found.is_guess) == ("v2/gh/ann/notes/wip?urlpath=%2Flab%2Ftree%2Fme", True)
    assert detail in found.notice
    assert "'wip' is taken for it" in found.notice


@pytest.mark.parametrize("code", ["banned", "address_not_allowed"])
async def test_a_repository_that_may_not_be_asked_is_refused(code: ErrorCode) -> None:
    with pytest.raises(BinderyError) as raised:
        await detected(f"{TREE}/wip/me", FakeBackends(failure=BinderyError(code)))
    assert raised.value.code == code


class SilentBackends(FakeBackends):
    """A resolver that never answers."""

    async def existing_refs(self, question: RefQuestion) -> tuple[str, ...]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_forge_that_does_not_answer_in_time_is_not_waited_for() -> None:
    found = await detected(f"{TREE}/wip/me", SilentBackends(), timeout_seconds=0.01)
    assert found.is_guess
    assert "within 0.01 s" in found.notice

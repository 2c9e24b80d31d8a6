"""Some cases with a process executor that has no overlays, as on macOS: each server gets copies, and is right there."""

from collections.abc import Iterator

import pytest

from tests.repositories.conftest import Launch, stack_for_cases
from tests.support.cases import Case, all_cases
from tests.support.leftovers import Listing
from tests.support.stack import Stack

pytestmark = pytest.mark.long
CASES = [case for case in all_cases() if case.options.in_copies]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack_for_cases(tmp_path_factory.mktemp("copies"), image_overlays="false") as stack:
        yield stack


@pytest.fixture(scope="module")
def idle(stack: Stack) -> Listing:
    return Listing.of(stack)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_a_repository_in_copies(launch: Launch, case: Case) -> None:
    launch(case)

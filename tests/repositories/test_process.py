"""Every case with the process executor: from its link to a server that is right, or to its author's error."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.case_launches import launch_case
from tests.support.case_repositories import CaseRepository
from tests.support.cases import Case, all_cases
from tests.support.forge import Forge
from tests.support.leftovers import Listing, leave_nothing, until_back_to
from tests.support.stack import Stack

CASES = [case for case in all_cases() if "process" in case.options.executors]
Launch = Callable[[Case], None]


@pytest.fixture
def launch(request: pytest.FixtureRequest, stack: Stack, forge: Forge, idle: Listing, tmp_path: Path) -> Launch:
    """Launch a case, see what it must come to, and that nothing of it is left."""

    def launch(case: Case) -> None:
        variables = {"CHANNEL": request.getfixturevalue("channel")} if case.mentions("CHANNEL") else {}
        try:
            launch_case(stack, CaseRepository(case=case, forge=forge, folder=tmp_path, variables=variables), "process")
        finally:
            leave_nothing(stack)
        until_back_to(stack, idle)

    return launch


@pytest.mark.parametrize("case", [case for case in CASES if case.options.is_quick], ids=lambda case: str(case.name))
def test_a_few_repositories(launch: Launch, case: Case) -> None:
    launch(case)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_every_repository(launch: Launch, case: Case) -> None:
    launch(case)

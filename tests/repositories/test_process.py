"""Every case with the process executor: from its link to a server that is right, or to its author's error."""

import pytest

from tests.repositories.conftest import Launch
from tests.support.cases import Case, all_cases

CASES = [case for case in all_cases() if "process" in case.options.executors]


@pytest.mark.parametrize("case", [case for case in CASES if case.options.is_quick], ids=lambda case: str(case.name))
def test_a_few_repositories(launch: Launch, case: Case) -> None:
    launch(case)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_every_repository(launch: Launch, case: Case) -> None:
    launch(case)

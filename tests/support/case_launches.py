"""Launches of a case: from its link to a server that its `verify` finds right, or to the error it must end with."""

from typing import Any

from tests.support.api_launches import ApiLaunch, git_spec, log_of
from tests.support.case_repositories import CaseRepository
from tests.support.cases import Executor, Problem
from tests.support.launching import Launching
from tests.support.verifying import verify

_SECONDS = 300


def launch_case(stack: Launching, repository: CaseRepository, executor: Executor) -> None:
    """Launch the repository of a case as often as it says, and fail unless everything comes as it must."""
    options = repository.case.options
    repository.make()
    first = _begin(stack, repository)
    if problem := repository.case.problem(executor):
        _must_fail(first, problem)
        return

    _must_be_ready(first)
    log = log_of(stack, first.view["build_id"])
    for words in options.log if executor == "process" else ():
        assert words in log, f"no {words!r} in {log}"

    early = [first, *(_begin(stack, repository) for _ in range(2, options.servers))]
    for number, launch in enumerate(early, start=1):
        _verify(launch, repository, number)
    if options.servers > 1:
        _verify(_begin(stack, repository), repository, options.servers)
    if options.is_built_again:
        repository.commit_again()
        _verify(_begin(stack, repository), repository, options.servers + 1)


def _begin(stack: Launching, repository: CaseRepository) -> ApiLaunch:
    return ApiLaunch.begin(stack, git_spec(repository.url, repository.case.options.ref))


def _must_be_ready(launch: ApiLaunch) -> dict[str, Any]:
    launch.stream.outcome(_SECONDS)
    return launch.until_ended()


def _must_fail(launch: ApiLaunch, problem: Problem) -> None:
    launch.stream.outcome(_SECONDS)
    said = launch.problem()
    assert (said["code"], said["whose_move"]) == (problem.code, "author"), said
    for words in problem.words:
        assert words in said["detail"], f"no {words!r} in {said}"


def _verify(launch: ApiLaunch, repository: CaseRepository, number: int) -> None:
    view = _must_be_ready(launch)
    case = repository.case
    programs = {name: repository.filled(content) for name, content in case.programs.items()}
    verify(view["url"], view["token"], programs, server=number, in_terminal=case.options.in_terminal)

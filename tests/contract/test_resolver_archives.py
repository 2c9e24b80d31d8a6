"""What holds for every archive: one that is missing, private, withdrawn, limited, down or slow, and its DOI."""

import threading

import pytest

from tests.support.archives import DOI_ORG, reply, resolver_of_archives
from tests.support.deposits import BY_DOI, DEPOSITS, Deposit
from tests.support.forge import Fault, Forge, Page

every_archive = pytest.mark.parametrize("deposit", DEPOSITS)


@every_archive
async def test_a_deposit_is_resolved_and_its_resolved_link_means_the_same(forge: Forge, deposit: Deposit) -> None:
    provider, spec, _ = deposit(forge)
    async with resolver_of_archives(forge) as resolver:
        repo = await resolver.repo(provider, spec)
        again = await resolver.repo(provider, repo.resolved_spec)
    assert (again.repo_url, again.ref, again.slug) == (repo.repo_url, repo.ref, repo.slug)
    assert again.resolved_spec == repo.resolved_spec


@every_archive
@pytest.mark.parametrize(
    ("page", "code", "says"),
    [
        (Page(404), "ref_not_found", "There is no "),
        (reply({"message": "Permission denied."}, 403), "ref_not_found", "are not public, and only public ones"),
        (Page(401), "ref_not_found", "are not public, and only public ones"),
        (Page(410), "ref_not_found", "has withdrawn"),
        (Page(429, {"Retry-After": "90"}), "rate_limited", "rate limit exceeded. Try again in 2 minutes."),
        (Page(500), "provider_unavailable", "answered 500."),
        (Page(418), "provider_unavailable", "answered 418."),
        (Page(200, {}, b"<html>"), "provider_unavailable", "answered in a form that is not understood."),
        (reply([]), "provider_unavailable", "answered in a form that is not understood."),
    ],
)
async def test_what_else_an_archive_may_answer(
    forge: Forge, deposit: Deposit, page: Page, code: str, says: str
) -> None:
    provider, spec, api = deposit(forge)
    forge.pages[api] = page
    async with resolver_of_archives(forge) as resolver:
        problem = await resolver.problem(provider, spec)
    assert problem.code == code
    assert says in problem.detail


@every_archive
async def test_an_archive_that_does_not_answer_in_time_is_said(forge: Forge, deposit: Deposit) -> None:
    provider, spec, api = deposit(forge)
    del forge.pages[api]
    forge.git_fault = forge.api_fault = Fault(hold=threading.Event())
    async with resolver_of_archives(forge, forge_timeout_seconds=0.5) as resolver:
        problem = await resolver.problem(provider, spec)
    assert problem.code == "provider_unavailable"
    assert "does not answer" in problem.detail


@pytest.mark.parametrize("deposit", BY_DOI)
@pytest.mark.parametrize(
    ("page", "code", "says"),
    [
        (reply({"responseCode": 100, "handle": "x"}, 404), "ref_not_found", "There is no DOI 10."),
        (reply({"responseCode": 200, "handle": "x", "values": []}), "ref_not_found", "leads to no page"),
        (reply({"responseCode": 1, "values": [{"type": "URL", "data": {"value": "x:y"}}]}), "ref_not_found", "no page"),
        (reply({"responseCode": 1, "values": [{"type": "URL", "data": {"value": 1}}]}), "ref_not_found", "no page"),
        (Page(200, {}, b"<html>"), "ref_not_found", "leads to no page"),
        (Page(429), "rate_limited", "doi.org rate limit exceeded"),
        (Page(403), "provider_unavailable", "doi.org answered 403."),
        (Page(503), "provider_unavailable", "doi.org answered 503."),
    ],
)
async def test_what_else_doi_org_may_answer(forge: Forge, deposit: Deposit, page: Page, code: str, says: str) -> None:
    provider, spec, _ = deposit(forge)
    forge.pages[f"{DOI_ORG}/{spec}"] = page
    async with resolver_of_archives(forge) as resolver:
        problem = await resolver.problem(provider, spec)
    assert problem.code == code
    assert says in problem.detail


@pytest.mark.parametrize("deposit", BY_DOI)
@pytest.mark.parametrize(
    "spec", ["x", "10.5281", "10.5281/", "11.5281/x", "10.5281/a b", "10.5281/a/../b", "10.5281/%0a", "10.5281/\x7f"]
)
async def test_what_is_no_doi_is_refused_before_anybody_is_asked(forge: Forge, deposit: Deposit, spec: str) -> None:
    provider, _, _ = deposit(forge)
    async with resolver_of_archives(forge) as resolver:
        problem = await resolver.problem(provider, spec)
    assert problem.code == "bad_spec"
    assert "is not a DOI: one looks like" in problem.detail
    assert forge.requests == []

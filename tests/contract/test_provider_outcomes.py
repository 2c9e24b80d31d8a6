"""What each provider of the resolver answers in each situation. `tests/support/provider_outcomes.py` prints the table.

Of forges, `not found` is a ref; a repository that is not there is answered as a private one without a credential.
"""

from collections.abc import Mapping

import pytest

from services.common.models import Problem, ResolvedRepo, Visibility
from services.resolver.providers import load_providers
from services.resolver.settings import ResolverSettings
from tests.support.archives import DOI_ORG
from tests.support.forge import Fault, Forge
from tests.support.in_process_resolver import running_resolver
from tests.support.provider_outcomes import Absent, Cell, Fails, Resolves, Row
from tests.support.provider_upstreams import TOKEN, UPSTREAMS, Upstream
from tests.support.settings import settings_for

LIMITED, UNAVAILABLE, MISSING = "rate_limited", "provider_unavailable", "ref_not_found"
TWO_MINUTES = "rate limit exceeded. Try again in 2 minutes."
NOT_PUBLIC = "are not public, and only public ones can be launched."
HIDDEN = Resolves("hidden", is_private=True)
NO_BRANCHES, NO_TAGS, NO_TOKEN = (
    Absent("archives lack branches"),
    Absent("archives lack tags"),
    Absent("no operator's token"),
)
WITHOUT_LOGIN = "is read without a credential: launch the link without one."


def api_fails(name: str) -> dict[str, Cell]:
    """Return the outcomes when an API, of this name in sentences, answers 429, hangs up or says nothing."""
    return {
        "rate_limited": Fails(LIMITED, f"{name} {TWO_MINUTES}".lstrip(), 90),
        "down": Fails(UNAVAILABLE, f"{name} does not answer.".lstrip(), 30),
        "slow": Fails(UNAVAILABLE, f"{name} does not answer.".lstrip(), 30),
    }


GIT_FAILS: dict[str, Cell] = {
    "rate_limited": Fails(LIMITED, "127.0.0.1 asks for fewer requests.", 90),
    "down": Fails(UNAVAILABLE, "127.0.0.1 can't be reached.", 30),
    "slow": Fails(UNAVAILABLE, "did not answer within 5 s.", 30),
}

OUTCOMES: Mapping[str, Row] = {
    "gh": Row(
        head=Resolves("newest"),
        branch=Resolves("of the branch"),
        tag=Resolves("first"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no branch, tag or commit nosuchref in org/notes on GitHub."),
        private_to_nobody=Fails(MISSING, "There is no public repository org/hidden on GitHub, or no HEAD in it."),
        private_to_operator=HIDDEN,
        private_to_user=HIDDEN,
        **api_fails("GitHub"),
    ),
    "gist": Row(
        head=Resolves("newest"),
        branch=Resolves("newest"),
        tag=Absent("gists lack tags"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no gist 0123 on GitHub."),
        private_to_nobody=Fails(MISSING, "is secret: only public gists are launched here."),
        private_to_operator=Resolves("newest", is_private=True),
        private_to_user=Fails("bad_request", f"Gist {WITHOUT_LOGIN}"),
        **api_fails("GitHub"),
    ),
    "git": Row(
        head=Resolves("newest"),
        branch=Resolves("of the branch"),
        tag=Resolves("first"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no branch, tag or commit nosuchref in http://"),
        private_to_nobody=Fails(MISSING, "There is no public git repository at http://"),
        private_to_operator=HIDDEN,
        private_to_user=HIDDEN,
        **GIT_FAILS,
    ),
    "gl": Row(
        head=Resolves("newest"),
        branch=Resolves("of the branch"),
        tag=Resolves("first"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no public project team/notes on GitLab"),
        private_to_nobody=Fails(MISSING, "There is no public project team/hidden on GitLab"),
        private_to_operator=HIDDEN,
        private_to_user=HIDDEN,
        **api_fails(""),
    ),
    "gitea": Row(
        head=Resolves("first"),
        branch=Resolves("first"),
        tag=Resolves("first"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no branch, tag or commit nosuchref in ann/notes on gitea.test."),
        private_to_nobody=Fails(MISSING, "There is no public repository ann/hidden on gitea.test."),
        private_to_operator=Resolves("first", is_private=True),
        private_to_user=Resolves("first", is_private=True),
        **api_fails("gitea.test"),
    ),
    "bb": Row(
        head=Resolves("newest"),
        branch=Resolves("of the branch"),
        tag=Resolves("first"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no branch, tag or commit nosuchref in team/notes on Bitbucket."),
        private_to_nobody=Fails(MISSING, "There is no public repository team/hidden on Bitbucket."),
        private_to_operator=HIDDEN,
        private_to_user=HIDDEN,
        **GIT_FAILS,
    ),
    "zenodo": Row(
        head=Resolves("newest"),
        branch=NO_BRANCHES,
        tag=NO_TAGS,
        sha=Resolves("newest"),
        not_found=Fails(MISSING, "There is no record 10.5281/zenodo.9 on Zenodo, or it is not public."),
        private_to_nobody=Fails(MISSING, f"on Zenodo {NOT_PUBLIC}"),
        private_to_operator=NO_TOKEN,
        private_to_user=Fails("bad_request", f"Zenodo {WITHOUT_LOGIN}"),
        **api_fails("Zenodo"),
    ),
    "figshare": Row(
        head=Resolves("newest"),
        branch=NO_BRANCHES,
        tag=NO_TAGS,
        sha=Resolves("first"),
        not_found=Fails(MISSING, "There is no version 9 of article 10.6084/m9.figshare.9782777.v9 on Figshare"),
        private_to_nobody=Fails(MISSING, f"on Figshare {NOT_PUBLIC}"),
        private_to_operator=NO_TOKEN,
        private_to_user=Fails("bad_request", f"Figshare {WITHOUT_LOGIN}"),
        **api_fails("Figshare"),
    ),
    "dataverse": Row(
        head=Resolves("newest"),
        branch=NO_BRANCHES,
        tag=NO_TAGS,
        sha=Absent("DOIs lack versions"),
        not_found=Fails(MISSING, "There is no dataset or file 10.7910/DVN/TJCLKP on 127.0.0.1"),
        private_to_nobody=Fails(MISSING, f"on 127.0.0.1 {NOT_PUBLIC}"),
        private_to_operator=NO_TOKEN,
        private_to_user=Fails("bad_request", f"Dataverse {WITHOUT_LOGIN}"),
        **api_fails("127.0.0.1"),
    ),
    "hydroshare": Row(
        head=Resolves("newest"),
        branch=NO_BRANCHES,
        tag=NO_TAGS,
        sha=Absent("ids lack versions"),
        not_found=Fails(MISSING, "on HydroShare, or it is not public."),
        private_to_nobody=Fails(MISSING, f"on HydroShare {NOT_PUBLIC}"),
        private_to_operator=NO_TOKEN,
        private_to_user=Fails("bad_request", f"Hydroshare {WITHOUT_LOGIN}"),
        **api_fails("HydroShare"),
    ),
    "ckan": Row(
        head=Resolves("newest"),
        branch=NO_BRANCHES,
        tag=NO_TAGS,
        sha=Resolves("first"),
        not_found=Fails(MISSING, "on 127.0.0.1, or it is not public."),
        private_to_nobody=Fails(MISSING, f"on 127.0.0.1 {NOT_PUBLIC}"),
        private_to_operator=NO_TOKEN,
        private_to_user=Fails("bad_request", f"CKAN {WITHOUT_LOGIN}"),
        **api_fails("127.0.0.1"),
    ),
    "swh": Row(
        head=Resolves("first"),
        branch=Absent("SWHIDs name objects"),
        tag=Resolves("first"),
        sha=Resolves("first"),
        not_found=Fails(MISSING, "on Software Heritage. Its repository can be archived at"),
        private_to_nobody=Absent("everything is public"),
        private_to_operator=Absent("everything is public"),
        private_to_user=Fails("bad_request", f"Software Heritage {WITHOUT_LOGIN}"),
        **api_fails("Software Heritage"),
    ),
    "doi": Row(
        head=Resolves("newest"),
        branch=NO_BRANCHES,
        tag=NO_TAGS,
        sha=Resolves("newest"),
        not_found=Fails(MISSING, "There is no DOI 10.5281/zenodo.10."),
        private_to_nobody=Fails(MISSING, f"on Zenodo {NOT_PUBLIC}"),
        private_to_operator=NO_TOKEN,
        private_to_user=Fails("bad_request", f"DOI {WITHOUT_LOGIN}"),
        **api_fails("DataCite"),
    ),
}

CELLS = {
    f"{provider}-{column}": (provider, column, cell)
    for provider, row in OUTCOMES.items()
    for column, cell in row.cells()
    if not isinstance(cell, Absent)
}
FAULTS = {
    "rate_limited": Fault(status=429, headers={"Retry-After": "90"}),
    "down": Fault(hangs_up=True),
    "slow": Fault.holding(),
}
SLOW_SECONDS = 5.0
"""An archive's DOI has to be found within this time, too, on however busy a machine."""
FAR_BOUNDS = dict.fromkeys(("forge_timeout_seconds", "git_timeout_seconds", "resolve_timeout_seconds"), 3600.0)


def test_every_provider_has_a_row() -> None:
    assert list(OUTCOMES) == list(UPSTREAMS)
    assert sorted(OUTCOMES) == sorted(load_providers(settings_for(ResolverSettings)))


@pytest.mark.parametrize(("provider", "column", "cell"), CELLS.values(), ids=CELLS)
async def test_outcome(forge: Forge, provider: str, column: str, cell: Cell) -> None:
    """A slow upstream ends the test only by the setting that bounds requests to it: all others are far away."""
    upstream = UPSTREAMS[provider](forge)
    forge.pages |= upstream.pages.get(column, {})
    settings = {**FAR_BOUNDS, **upstream.settings}
    is_readable = column in {"private_to_operator", "private_to_user"}
    if is_readable:
        forge.pages |= upstream.private_to
    if column == "private_to_operator":
        settings |= upstream.operators
    if column in FAULTS:
        settings |= {upstream.bound: SLOW_SECONDS} if column == "slow" else {}
        break_down(forge, FAULTS[column])

    async with running_resolver(**settings) as resolver:
        ask = resolver.repo if isinstance(cell, Resolves) else resolver.problem
        answer = await ask(provider, upstream.link(column), TOKEN if column == "private_to_user" else "")

    check(answer, cell, upstream)
    assert TOKEN not in answer.model_dump_json()
    if isinstance(answer, ResolvedRepo) and column == "sha":
        assert answer.immutable_spec
    if is_readable and upstream.private_to:
        assert all(TOKEN in request.headers["authorization"] for request in forge.requests)


def break_down(forge: Forge, fault: Fault) -> None:
    """Have all requests fail but those to doi.org, which leads to an archive that fails."""
    forge.pages = {path: page for path, page in forge.pages.items() if path.startswith(DOI_ORG)}
    forge.api_fault = forge.git_fault = fault


def check(answer: ResolvedRepo | Problem, cell: Cell, upstream: Upstream) -> None:
    """Compare an answer with what the table says."""
    if isinstance(cell, Resolves) and isinstance(answer, ResolvedRepo):
        assert answer.ref == upstream.refs[cell.words]
        assert answer.visibility is (Visibility.PRIVATE if cell.is_private else Visibility.PUBLIC)
    elif isinstance(cell, Fails) and isinstance(answer, Problem):
        assert answer.code == cell.code
        assert cell.says in answer.detail
        assert answer.retry_after_seconds == (
            cell.retry_after_seconds and pytest.approx(cell.retry_after_seconds, abs=15)
        )
    else:
        pytest.fail(f"not what the table says: {answer}")

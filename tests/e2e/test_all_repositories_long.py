"""Every sample repository launched once, from link to kernel or to its author's error, with real JupyterLab."""

from collections.abc import Iterator

import pytest

from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.forge import Forge
from tests.support.kernels import kernel
from tests.support.leftovers import Listing, leave_nothing, until_back_to
from tests.support.sample_repositories import SAMPLE_REPOSITORIES, SampleRepository
from tests.support.stack import Stack, share_packages

pytestmark = pytest.mark.long

ORG = "samples"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the packages that every environment really gets."""
    with Stack(
        tmp_path_factory.mktemp("samples") / "data",
        reap_interval_seconds=1,
        server_poll_seconds=1,
        finished_stream_seconds=1,
    ) as stack:
        share_packages(stack)
        yield stack


@pytest.mark.parametrize("sample", SAMPLE_REPOSITORIES, ids=lambda sample: str(sample.name))
def test_a_repository_ends_with_a_kernel_or_with_its_authors_error(
    stack: Stack, forge: Forge, sample: SampleRepository
) -> None:
    before = Listing.of(stack)
    sha = forge.create_repo(ORG, sample.name, sample.files)
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/{sample.name}", sha))
    if sample.code:
        problem = launch.problem()
        assert (problem["code"], problem["whose_move"]) == (sample.code, "author")
        text = problem["detail"]
    else:
        view = launch.until_ended()
        with kernel(view["url"], view["token"], "index.ipynb") as running_kernel:
            text = running_kernel.run(sample.cell)
    for words in sample.words:
        assert words in text

    assert launch.view["build_id"].endswith("-1")
    leave_nothing(stack)
    until_back_to(stack, before)

"""A dataset of an archive, from its DOI to a server that has it."""

from tests.support.api_launches import ApiLaunch, build_of, log_of
from tests.support.archive_datasets import serve_zenodo, zipped
from tests.support.archives import lead
from tests.support.forge import Forge
from tests.support.leftovers import Listing, leave_nothing, until_back_to
from tests.support.stack import Stack
from tests.support.verifying import verify

DOI = "10.5281/zenodo.7"
FILES = {
    "requirements.txt": b"six\n",
    "postBuild": b"#!/bin/sh\nset -e\ntest ! -e .git\necho made > made\n",
    "data/Gr\u00f6\u00dfe 1.csv": b"a,b\n",
}
VERIFY = b"""#!/bin/sh
set -e
test "$(pwd)" = "$HOME"
test "$(cat 'data/Gr\xc3\xb6\xc3\x9fe 1.csv')" = "a,b"
test "$(cat made)" = made
test "$BINDER_REPO_URL" = https://zenodo.org/records/7
python -c 'import six'
"""


def test_a_doi_leads_to_a_kernel_in_its_dataset(stack: Stack, forge: Forge, idle: Listing) -> None:
    lead(forge, DOI, "https://zenodo.org/records/7")
    serve_zenodo(forge, "7", {"repo-1.0.zip": zipped({f"repo-1.0/{name}": content for name, content in FILES.items()})})
    try:
        first = ApiLaunch.begin(stack, DOI, provider="zenodo")
        first.stream.outcome(300)
        view = first.until_ended()
        verify(view["url"], view["token"], {"verify": VERIFY}, server=1, in_terminal=False)
        log = log_of(stack, view["build_id"])
        assert "Fetching 1 file of record 7 (1 KiB)\nUnpacking repo-1.0.zip\n" in log, log
        image = build_of(stack, view["build_id"])["image"]
        assert (image.startswith("bindery/zenodo-2d7-"), image.endswith(":7")) == (True, True), image

        second = ApiLaunch.begin(stack, DOI, provider="doi")  # whichever archive has it: the same image
        second.stream.outcome(300)
        view = second.until_ended()
        verify(view["url"], view["token"], {"verify": VERIFY}, server=2, in_terminal=False)
        assert sum(request.path.endswith("/repo-1.0.zip/content") for request in forge.requests) == 1
    finally:
        leave_nothing(stack)
    until_back_to(stack, idle)

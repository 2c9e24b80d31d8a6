"""GitHub's provider through the whole stack, by its API and its git, both the forge's."""

import pytest

from tests.support.forge import Fault, Forge
from tests.support.stack import Stack

ORG = "old"


@pytest.fixture
def held_forge(forge: Forge) -> Forge:
    """A forge whose API answers while its git waits: nothing is built before it is released."""
    forge.git_fault = Fault.holding()
    return forge


def test_a_branch_that_github_has_no_more_is_its_default_branch_and_that_is_told_at_once(
    stack: Stack, held_forge: Forge
) -> None:
    sha = held_forge.create_repo(ORG, "moved", {"README.md": "It was on master."}, branch="trunk")
    following = stack.build(f"gh/{ORG}/moved/master")
    notice = f"{ORG}/moved has no branch master: its default branch (HEAD) is used instead. Please update the link.\n"
    following.until_message(notice)
    assert following.events[0] == {"phase": "waiting", "message": notice}
    page = stack.client.get(f"{stack.url}/launches/{following.launch_id}", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert f'<p class="notice">{notice.rstrip()}</p>' in page.text
    assert following.terminal is None
    assert held_forge.git_fault
    held_forge.git_fault.release()
    ready = following.outcome()
    assert ready["phase"] == "ready", ready
    assert ready["repo_url"] == f"{held_forge.url}/{ORG}/moved"
    assert ready["binder_ref_url"] == f"{held_forge.url}/{ORG}/moved/tree/{sha}"
    assert ready["binder_persistent_request"] == f"v2/gh/{ORG}/moved/{sha}"
    assert [event["message"] for event in following.events].count(notice) == 1


def test_a_branch_of_any_other_name_is_not_made_up(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "plain", {"README.md": "plain"})
    outcome = stack.build(f"gh/{ORG}/plain/develop").outcome()
    assert (outcome["phase"], outcome["code"]) == ("failed", "ref_not_found")

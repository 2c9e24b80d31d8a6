"""Addresses as people paste them, and links as programs break them, on the running stack."""

from urllib.parse import quote

import pytest

from tests.support.forge import Forge
from tests.support.stack import Stack

BRANCH = "wip/plots#1"


@pytest.fixture(scope="module")
def sha(forge: Forge) -> str:
    return forge.create_repo("addresses", "notes", {"src/a.py": "print(1)\n"}, branch=BRANCH)


def test_the_address_of_a_branchs_page_becomes_a_link_that_launches_it(stack: Stack, forge: Forge, sha: str) -> None:
    address = f"{forge.url}/addresses/notes/blob/{quote(BRANCH)}/src/a.py?plain=1#L1"
    reply = stack.client.post(f"{stack.url}/api/v1/detect", json={"address": address})
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert (found["provider"], found["spec"], found["ref"]) == ("gh", "addresses/notes/wip/plots%231", BRANCH)
    assert (found["path"], found["is_guess"]) == ("/doc/tree/src/a.py", False)
    assert stack.client.get(found["link"]).status_code == 200

    ready = stack.build(f"gh/{found['spec']}").outcome()
    assert (ready["phase"], ready["binder_persistent_request"]) == ("ready", f"v2/gh/addresses/notes/{sha}")


def test_what_a_forge_does_not_have_or_does_not_show_is_refused(stack: Stack, forge: Forge, sha: str) -> None:
    for page, code in (("tree/none/such", "ref_not_found"), ("issues/1", "bad_spec")):
        address = f"{forge.url}/addresses/notes/{page}"
        problem = stack.client.post(f"{stack.url}/api/v1/detect", json={"address": address}).json()
        assert problem["code"] == code
        form = stack.client.get(f"{stack.url}/", params={"provider": "gh", "repository": address})
        assert 'data-testid="launch-url"' not in form.text


def test_a_link_whose_url_was_changed_on_its_way_is_launched(stack: Stack, forge: Forge, sha: str) -> None:
    url = f"{forge.url}/addresses/notes.git"
    ref = quote(BRANCH)
    meant = f"/v2/git/{quote(url, safe='')}/{ref}"
    for changed in (f"{quote(url)}/{ref}", f"{url}/{ref}", f"{url.replace('//', '/')}/{ref}"):
        reply = stack.client.get(f"{stack.url}/v2/git/{changed}", follow_redirects=False)
        assert (reply.status_code, reply.headers["location"]) == (302, meant), changed

    ready = stack.build(f"git/{quote(url)}/{ref}").outcome()
    assert (ready["phase"], ready["binder_persistent_request"]) == ("ready", f"v2/git/{quote(url, safe='')}/{sha}")

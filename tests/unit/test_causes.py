"""What the recorded words of hub, spawners and cluster mean; and what follows when several of them are said."""

import json
from pathlib import Path

import pytest

from services.common.errors import KINDS, BinderyError
from services.launcher.causes import SIGNS, Means, Signs, sign_of

RECORDED = json.loads((Path(__file__).parents[1] / "contract" / "recorded" / "progress.json").read_text())
SAID = [(row["message"], row["means"], row["code"]) for rows in RECORDED.values() for row in rows]

ASSIGNED = "2026-11-24T00:20:03Z [Normal] Successfully assigned jhub/a to node1"
PULLING = '2026-11-24T00:20:03Z [Normal] Pulling image "r.example/a:1"'
REFUSED = '2026-11-24T00:20:03Z [Warning] Failed to pull image "r.example/a:1": dial tcp: connection refused'
ERR_IMAGE_PULL = "2026-11-24T00:20:03Z [Warning] Error: ErrImagePull"
NO_ROOM = "2026-11-24T00:20:03Z [Warning] 0/1 nodes are available: 1 Insufficient memory."
CRASHES = "2026-11-24T00:20:03Z [Warning] Back-off restarting failed container notebook in pod a"


@pytest.mark.parametrize(("message", "means", "code"), [row for row in SAID if row[1] != "failed"])
def test_a_message_of_the_progress_means_what_it_was_recorded_for(message: str, means: str, code: str) -> None:
    sign = sign_of(message)
    assert (sign.means if sign else "", sign.code if sign else "") == (means, code)


@pytest.mark.parametrize(("message", "code"), [(row[0], row[2]) for row in SAID if row[1] == "failed"])
def test_a_failed_start_has_the_code_of_its_cause(message: str, code: str) -> None:
    error = Signs().failure(message)
    assert error.code == code
    assert "HTTP response" not in error.detail
    assert error.detail.strip()


def test_every_code_of_the_table_is_one_of_the_list_and_is_recorded() -> None:
    codes = {sign.code for sign in SIGNS if sign.code}
    assert codes <= KINDS.keys()
    assert codes == {code for _, _, code in SAID if code}


def test_a_pull_that_is_refused_is_the_cause_although_vaguer_words_follow() -> None:
    signs = Signs()
    for message in (ASSIGNED, PULLING, REFUSED, ERR_IMAGE_PULL):
        signs.read(message)
    error = signs.timed_out("The server did not answer within 120 s.")
    assert error.code == "image_pull_unreachable"
    assert error.detail == (
        'Failed to pull image "r.example/a:1": dial tcp: connection refused. The server did not answer within 120 s.'
    )


def test_a_step_that_is_taken_makes_what_was_in_its_way_forgotten() -> None:
    signs = Signs()
    signs.read(NO_ROOM)
    assert signs.timed_out("").code == "server_unschedulable"
    signs.read(ASSIGNED)
    assert signs.timed_out("Time is up.").code == "server_start_timeout"


def test_a_pull_that_never_ends_is_told_as_that() -> None:
    signs = Signs()
    signs.read(PULLING)
    assert signs.failure("Spawn failed: pod jhub/a did not start in 300 seconds!").code == "image_pull_timeout"


def test_a_container_that_can_not_be_made_is_told_with_what_it_lacks() -> None:
    signs = Signs()
    signs.read('2026-11-24T00:20:03Z [Warning] Error: exec: "jupyter": executable file not found in $PATH')
    with pytest.raises(BinderyError) as raised:
        signs.read(CRASHES)
    assert raised.value.code == "server_start_failed"
    assert '"jupyter": executable file not found' in raised.value.detail


def test_what_is_fatal_ends_the_start() -> None:
    assert {sign.means for sign in SIGNS} == set(Means)
    with pytest.raises(BinderyError) as raised:
        Signs().read(CRASHES)
    assert raised.value.code == "server_start_failed"

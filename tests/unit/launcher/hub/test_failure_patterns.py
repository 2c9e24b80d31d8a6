"""What the recorded words of hub, spawners and cluster mean; and what follows when several of them are said."""

import json

import pytest

from services.common.models.error_codes import KINDS
from services.common.models.errors import BinderyError
from services.launcher.hub.failure_patterns import PATTERNS, Diagnosis, Verdict, match_pattern
from tests.support.paths import RECORDED as RECORDED_REPLIES
from tests.support.paths import TESTS

RECORDED = json.loads((RECORDED_REPLIES / "progress.json").read_text())
RECORDED_MESSAGES = [(row["message"], row["verdict"], row["code"]) for rows in RECORDED.values() for row in rows]

REPLAYS = TESTS / "support" / "spawner_messages"
ENDS = {
    "kubernetes-ended": "server_start_failed",
    "kubernetes-image-not-found": "image_pull_failed",
    "kubernetes-out-of-memory": "server_out_of_memory",
    "kubernetes-ready": "",
    "kubernetes-unschedulable": "server_unschedulable",
}

ASSIGNED = "2026-11-24T00:20:03Z [Normal] Successfully assigned jhub/a to node1"
PULLING = '2026-11-24T00:20:03Z [Normal] Pulling image "r.example/a:1"'
PULL_REFUSED = '2026-11-24T00:20:03Z [Warning] Failed to pull image "r.example/a:1": dial tcp: connection refused'
ERR_IMAGE_PULL = "2026-11-24T00:20:03Z [Warning] Error: ErrImagePull"
NO_ROOM = "2026-11-24T00:20:03Z [Warning] 0/1 nodes are available: 1 Insufficient memory."
CRASHES = "2026-11-24T00:20:03Z [Warning] Back-off restarting failed container notebook in pod a"


@pytest.mark.parametrize(("message", "verdict", "code"), [row for row in RECORDED_MESSAGES if row[1] != "failed"])
def test_a_message_of_the_progress_means_what_it_was_recorded_for(message: str, verdict: str, code: str) -> None:
    pattern = match_pattern(message)
    assert (pattern.verdict if pattern else "", pattern.code if pattern else "") == (verdict, code)


@pytest.mark.parametrize(("message", "code"), [(row[0], row[2]) for row in RECORDED_MESSAGES if row[1] == "failed"])
def test_a_failed_start_has_the_code_of_its_cause(message: str, code: str) -> None:
    error = Diagnosis().failure(message)
    assert error.code == code
    assert "HTTP response" not in error.detail
    assert error.detail.strip()


def test_every_code_of_the_table_is_one_of_the_list_and_is_recorded() -> None:
    codes = {pattern.code for pattern in PATTERNS if pattern.code}
    assert codes <= KINDS.keys()
    assert codes == {code for _, _, code in RECORDED_MESSAGES if code}


def test_a_pull_that_is_refused_is_the_cause_although_vaguer_words_follow() -> None:
    diagnosis = Diagnosis()
    for message in (ASSIGNED, PULLING, PULL_REFUSED, ERR_IMAGE_PULL):
        diagnosis.observe(message)
    error = diagnosis.timeout("The server did not answer within 120 s.")
    assert error.code == "image_pull_unreachable"
    assert error.detail == (
        'Failed to pull image "r.example/a:1": dial tcp: connection refused. The server did not answer within 120 s.'
    )


def test_a_step_that_is_taken_makes_what_was_in_its_way_forgotten() -> None:
    diagnosis = Diagnosis()
    diagnosis.observe(NO_ROOM)
    assert diagnosis.timeout("").code == "server_unschedulable"
    diagnosis.observe(ASSIGNED)
    assert diagnosis.timeout("Time is up.").code == "server_start_timeout"


def test_a_pull_that_never_ends_is_told_as_that() -> None:
    diagnosis = Diagnosis()
    diagnosis.observe(PULLING)
    assert diagnosis.failure("Spawn failed: pod jhub/a did not start in 300 seconds!").code == "image_pull_timeout"


def test_a_container_that_can_not_be_made_is_told_with_what_it_lacks() -> None:
    diagnosis = Diagnosis()
    diagnosis.observe('2026-11-24T00:20:03Z [Warning] Error: exec: "jupyter": executable file not found in $PATH')
    with pytest.raises(BinderyError) as raised:
        diagnosis.observe(CRASHES)
    assert raised.value.code == "server_start_failed"
    assert '"jupyter": executable file not found' in raised.value.detail


def test_what_is_fatal_ends_the_start() -> None:
    assert {pattern.verdict for pattern in PATTERNS} == set(Verdict)
    with pytest.raises(BinderyError) as raised:
        Diagnosis().observe(CRASHES)
    assert raised.value.code == "server_start_failed"


@pytest.mark.parametrize("name", sorted(path.stem for path in REPLAYS.glob("*.json")))
def test_a_recorded_start_ends_with_the_code_of_its_cause(name: str) -> None:
    diagnosis = Diagnosis()

    def ends() -> str:
        for message in json.loads((REPLAYS / f"{name}.json").read_text()):
            if message.startswith("Server ready"):
                return ""
            if message.startswith("Spawn failed"):
                return diagnosis.failure(message).code
            diagnosis.observe(message)
        return diagnosis.timeout("Time is up.").code

    try:
        code = ends()
    except BinderyError as error:
        code = error.code
    assert code == ENDS[name]


@pytest.mark.parametrize(
    ("message", "verdict", "code"),
    [
        ('[Normal] Pulling image "r.example/lab-oomkilled-demo:1"', "waiting", "image_pull_timeout"),
        ('[Normal] Pulling image "r.example/preempted:1"', "waiting", "image_pull_timeout"),
        ('[Normal] Container image "r.example/out-of-memory/evicted:1" already present on machine', "progress", ""),
        ("[Normal] Successfully assigned jhub/jupyter-x-oomkilled-y to node1", "progress", ""),
        ("[Normal] Successfully assigned preempted/jupyter-evicted to oomkilled", "progress", ""),
        (
            '[Warning] Failed to pull image "r.example/notfound-demo:1": failed to do request: Head '
            '"https://r.example/v2/notfound-demo/manifests/1": dial tcp 10.0.0.1:443: i/o timeout',
            "cause",
            "image_pull_unreachable",
        ),
        (
            '[Warning] Failed to pull image "r.example/unauthorized:1": failed to resolve reference '
            '"r.example/unauthorized:1": r.example/unauthorized:1: not found',
            "fatal",
            "image_pull_failed",
        ),
        (
            "[Warning] Back-off restarting failed container notebook in pod oomkilled_jhub(f5-aa)",
            "fatal",
            "server_start_failed",
        ),
    ],
)
def test_the_name_of_a_repository_is_no_cause(message: str, verdict: str, code: str) -> None:
    pattern = match_pattern(f"2026-11-24T00:20:03Z {message}")
    assert pattern
    assert (pattern.verdict, pattern.code) == (verdict, code)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (
            "404 Client Error for http+docker://localhost/v1.41/images/create?tag=1&fromImage=r.example%2Fout+of+memory"
            ': Not Found ("manifest for r.example/oomkilled:1 not found: manifest unknown")',
            "image_pull_failed",
        ),
        (
            "Failed to pull image r.example/notfound-unauthorized:1: Get https://r.example/v2/: i/o timeout",
            "image_pull_unreachable",
        ),
        ("pod jhub/jupyter-oomkilled did not start in 300 seconds!", "server_start_timeout"),
        (
            "Spawner failed to start [status=1]. The logs for evicted-oomkilled may contain details.",
            "server_start_failed",
        ),
    ],
)
def test_a_start_that_failed_is_not_explained_by_a_name(message: str, code: str) -> None:
    assert Diagnosis().failure(f"Spawn failed: {message}").code == code

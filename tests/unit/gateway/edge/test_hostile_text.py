"""What strangers write is read once: no text of theirs keeps a service from all others.

Each text here begins something a hundred thousand times and never ends it. Read once it takes a second at most; read
again from each beginning, it takes hours, and pytest ends the test.
"""

import contextlib
import io
import json

import pytest

from services.builder.executors.base import Finished
from services.builder.executors.failure_classifier import classify_exit
from services.builder.registry.challenge import Challenge, parse_challenges
from services.builder.worker.causes.cause import explained
from services.builder.worker.causes.log_tail import tail_lines
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger
from services.common.service.redaction import redact
from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.launch_form import LaunchForm
from services.launcher.hub.failure_patterns import Diagnosis, match_pattern
from tests.support.sample_providers import BY_ID, TYPES
from tests.unit.builder.worker.causes.recordings import entries_of

pytestmark = pytest.mark.timeout(20)
TIMES = 100_000


@pytest.mark.parametrize(
    "beginning",
    ["://", "://:", "://a:", "://aaaaaaaaaaaaaaaaaaaaaaaa", "://a@", "authorization ", "authorization: ", "bearer ",
     "token", "&state", "code=", "secret= ", " ", "a"],
)  # fmt: skip
def test_a_text_is_redacted_in_one_pass(beginning: str) -> None:
    assert "[secret]" in redact(f"{beginning * TIMES} password=hunter2")


def test_a_log_line_is_written_in_one_pass_and_cut_in_its_middle_after_it_was_redacted(logs: io.StringIO) -> None:
    secret = "hunter2" * 20
    get_logger("ours").info("asked", url="x" * 16_300 + f"://user:{secret}@host " + "://:" * TIMES + " end")
    url = json.loads(logs.getvalue())["url"]
    assert len(url) < 33_000
    assert "://user:[secret]@host" in url
    assert "hunter2" not in url
    assert url.endswith("://: end")
    assert "characters left out]" in url


@pytest.mark.parametrize(
    "beginning",
    ["failed to pull ", "manifest for", "404 Client Error", "Error response", "HTTPConnectionPool(", "pull image :",
     "http://.", "lookup a", "exit code ", '"/a" "', '\\"a/', "Server at a", "in pod a", "pod a", "assigned a to", "a",
     "HTTP response body: ", 'HTTP response body: "message":"\\\\'],
)  # fmt: skip
def test_what_a_hub_says_of_a_start_is_read_in_one_pass(beginning: str) -> None:
    message = beginning * TIMES
    match_pattern(message)
    assert Diagnosis().failure(message).code


def test_a_thousand_names_in_what_a_hub_says_are_taken_out_in_time() -> None:
    assert match_pattern(" ".join(f'"/{number}"' for number in range(TIMES))) is None


def _outcome(*messages: str) -> Finished:
    return classify_exit(1, [json.dumps({"message": message, "phase": "building"}).encode() for message in messages])


@pytest.mark.parametrize(
    "beginning", ['"', '\\"', '"\\"', "failed to push a", "https://a", "exit code: ", "(exit code", "timed ", "HTTP "]
)
def test_what_a_builder_says_of_a_build_is_read_in_one_pass(beginning: str) -> None:
    assert _outcome('ERROR: failed to solve: "' + beginning * TIMES).error_code


@pytest.mark.parametrize(
    "beginning",
    ['ERROR: process "', 'error: process " did not complete successfully', "error: executor failed running ["],
)
def test_of_what_steps_print_a_bounded_part_is_searched(beginning: str) -> None:
    printed = [f"{beginning}\n" * 1000] * 99
    assert _outcome(*printed, "ERROR: failed to solve: x").error_code == "build_failed"


@pytest.mark.parametrize(
    "beginning",
    ["\x1b]", "\x9b0", "\r", "    ", "  x ", "://a@", "AError", "AError: ", "a.", "error: command ", "x: fatal error: ",
     "aConda", "CondaError", "InvalidSpec", "Unsatisfiable", "does not exist (perhaps ", "connection broken by ",
     "x was not found in ", "x: line 1: 2 Killed ", "executor failed running ", "The command '", "RUN postBuild "],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "hint: x\n    ", "WARNING: Retrying ", "#9 [2/3] RUN ", "#9 1.0 "])
def test_why_a_build_failed_is_read_in_one_pass(start: str, beginning: str) -> None:
    text = f"{start}{beginning * TIMES}"[: 2**18]
    lines = tail_lines(entries_of([text, "#9 ERROR: x", "ERROR: it failed"]))
    for sentence in ("It ended with exit status 1", f"repo2docker failed: {text}"):
        error = explained(BinderyError("build_failed", sentence), lines)
        assert error.cause is None or len(error.cause.text) < 1000


@pytest.mark.parametrize("beginning", ["a", " ", "=", 'a="\\"', 'a= "', "\\", ",", "a=a "])
def test_what_a_registry_wants_to_be_told_is_read_in_one_pass(beginning: str) -> None:
    text = f'{beginning * TIMES}\x80, Bearer realm="https://auth.example.org"'
    assert parse_challenges([text])[-1] == Challenge("bearer", {"realm": "https://auth.example.org"})


@pytest.mark.parametrize(
    "beginning",
    ["/", "a/", "https://github.com/", "a/a/tree/", "a/a/blob/a/", "%2F", "\\", "https:", "v2/gh/", "](", "<a href ",
     "git clone ", "git@", "10.1234/", "a.", "-/", "src/branch/", "https%3A", ":target: ", "[", "@:"],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["gh", "git", "zenodo"])
def test_what_is_typed_into_the_form_is_cut_and_read_in_one_pass(provider: str, beginning: str) -> None:
    text = beginning * TIMES
    with contextlib.suppress(BinderyError):
        reading = LaunchForm.of({"provider": provider, "repository": text, "ref": text, "path": text}, TYPES)
        assert all(len(candidate.link.url("/")) < 50_000 for candidate in reading.reading(TYPES).candidates)
    assert not BY_ID[provider].accepts(text)
    for address in (text, text[:4096], f"https://gitlab.com/{text[:4000]}", f"https://example.org/{text[:4000]}"):
        with contextlib.suppress(BinderyError):
            read_address(address, TYPES, provider)

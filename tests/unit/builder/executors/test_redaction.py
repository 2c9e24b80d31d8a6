"""A secret that a build was given, and says all the same, is blanked in its log and in the reason of its failure."""

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from services.builder.executors.base import Line
from services.builder.executors.build_credentials import CredentialsForBuilds
from services.builder.executors.docker.logs import ContainerLogDecoder, ContainerLogPosition
from services.builder.executors.kubernetes.logs import PodLogDecoder, PodLogPosition
from services.builder.executors.redaction import BLANK, MAX_SECRETS, Redaction
from services.builder.executors.repo2docker import log_line
from services.builder.settings import BuilderSettings
from tests.support.settings import settings_for

PUSH = 'push "pass/9d27'
GIT = "git-pass-5c1e"
TOKEN = "identity-token-77aa"
AUTH = base64.b64encode(f"pusher:{PUSH}".encode()).decode()


@pytest.fixture
async def redaction(tmp_path: Path) -> Redaction:
    """What an executor knows of once it has given a build its logins."""
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "auths": {
                    "registry.example.org": {"auth": AUTH},
                    "other.example": {"identitytoken": TOKEN},
                    "odd.example": {"auth": None, "password": 7},
                    "odder.example": {"auth": "%"},
                }
            }
        )
    )
    git = json.dumps({"git.example.org": f"username=reader\\npassword={GIT}"})
    logins = CredentialsForBuilds(settings_for(BuilderSettings, {"docker_config": str(config), "git_credentials": git}))
    try:
        await logins.for_image("registry.example.org/team/image:ref")
    finally:
        await logins.aclose()
    return logins.redaction


@pytest.mark.parametrize("secret", [PUSH, GIT, TOKEN, AUTH, quote(PUSH, safe=""), json.dumps(PUSH)])
async def test_no_login_of_a_build_is_said_in_its_log_in_any_spelling(redaction: Redaction, secret: str) -> None:
    line = json.dumps({"phase": "fetching", "message": f"fatal: unable to access 'http://x/{secret}/x.git/'\n"})
    redacted = log_line(line.encode(), max_bytes=1000, redact=redaction)
    assert redacted.message.replace(f'"{BLANK}"', BLANK) == f"fatal: unable to access 'http://x/{BLANK}/x.git/'\n"
    plain = log_line(f"as it is: {secret}".encode(), max_bytes=1000, redact=redaction)
    assert plain.message.replace(f'"{BLANK}"', BLANK) == f"as it is: {BLANK}\n"


async def test_a_secret_is_blanked_before_a_line_is_cut(redaction: Redaction) -> None:
    redacted = log_line(b"x" * 90 + GIT.encode() + b"y" * 100, max_bytes=97, redact=redaction)
    assert GIT[:4] not in redacted.message


async def test_both_engines_logs_are_read_with_it(redaction: Redaction) -> None:
    stamped = f"2026-01-01T00:00:00.1Z {GIT}\n".encode()
    kubernetes = PodLogDecoder(PodLogPosition(), line_max_bytes=1000, redact=redaction)
    assert kubernetes.feed(stamped) == [Line("building", f"{BLANK}\n")]
    assert kubernetes.for_next_stream().feed(stamped.replace(b"00.1Z", b"00.2Z"))[-1] == Line("building", f"{BLANK}\n")
    frame = b"\x01\0\0\0" + len(stamped).to_bytes(4) + stamped
    docker = ContainerLogDecoder(ContainerLogPosition(), first=GIT.encode(), line_max_bytes=1000, redact=redaction)
    assert docker.feed(frame) == [Line("building", f"{BLANK}\n")]


def test_a_short_word_is_not_a_secret_and_only_the_latest_secrets_are_redacted() -> None:
    redaction = Redaction(["build"])
    assert redaction("a build of its own") == "a build of its own"
    redaction.learn(f"secret-number-{number}" for number in range(MAX_SECRETS + 1))
    assert redaction("secret-number-0, secret-number-1.") == f"secret-number-0, {BLANK}."

"""Texts of others: what is secret in them is blanked, and nothing else."""

import pytest

from services.common.service.redaction import redact

SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"redis://:{SECRET}@10.0.0.1:6379/0", "redis://:[secret]@10.0.0.1:6379/0"),
        (f"redis://user:{SECRET}@host/0 is away", "redis://user:[secret]@host/0 is away"),
        (f"redis+sentinel://:{SECRET}@a:1,b:2/main/0", "redis+sentinel://:[secret]@a:1,b:2/main/0"),
        (
            f"rediss+sentinel://bindery-gateway:{SECRET}@a:1,b:2/main/0?ssl_ca_certs=/ca.pem",
            "rediss+sentinel://bindery-gateway:[secret]@a:1,b:2/main/0?ssl_ca_certs=/ca.pem",
        ),
        (f"https://x-access-token:{SECRET}@host/r.git", "https://x-access-token:[secret]@host/r.git"),
        (f"https://{SECRET}@host/r.git", "https://[secret]@host/r.git"),
        (f"/user/ada/lab?token={SECRET}&x=1", "/user/ada/lab?token=[secret]&x=1"),
        (f"client_secret={SECRET}", "client_secret=[secret]"),
        (f"password={SECRET} api_key={SECRET}", "password=[secret] api_key=[secret]"),
        (f"/oauth_callback?code={SECRET}&state={SECRET}", "/oauth_callback?code=[secret]&state=[secret]"),
        (f"/oauth_callback?state={SECRET}&code={SECRET}", "/oauth_callback?state=[secret]&code=[secret]"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer [secret]"),
        (f"{{'authorization': 'Basic {SECRET}'}}", "{'authorization': 'Basic [secret]'}"),
        (f"sent token {SECRET}", "sent token [secret]"),
    ],
)
def test_secrets_of_urls_headers_and_commands_are_blanked(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "state=running code=build_failed",
        "exit code=137, state=ended",
        "ssh://git@example.org/a.git",
        "http://127.0.0.1:8585/v2/gh/a/b/HEAD",
        "redis://10.0.0.1:6379/0",
        "a token is missing",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert redact(text) == text

"""`/health` is 200 only when a launch can succeed."""

import pytest

from tests.support.polling import eventually
from tests.support.stack import Stack


def rows(stack: Stack) -> tuple[int, dict[str, dict[str, object]]]:
    reply = stack.client.get(f"{stack.url}/health")
    body = reply.json()
    assert body["ok"] == (reply.status_code == 200) == all(row["ok"] for row in body["checks"])
    return reply.status_code, {row["service"]: row for row in body["checks"]}


def test_well(stack: Stack) -> None:
    status, checks = rows(stack)
    assert status == 200
    assert {"Redis", "resolver", "builder", "launcher"} <= set(checks)


@pytest.mark.parametrize(
    ("part", "named"),
    [("resolver", "resolver"), ("builder", "builder"), ("launcher", "launcher"), ("hub", "launcher"),
     ("worker", "builder"), ("redis", "Redis"), ("proxy", "launcher")],
)  # fmt: skip
def test_a_part_that_does_not_answer_is_named(stack: Stack, part: str, named: str) -> None:
    assert rows(stack)[0] == 200
    with stack.paused(part):
        eventually(lambda: rows(stack)[0] == 503, f"503 while {part} is stopped")
        trouble = eventually(lambda: rows(stack)[1][named].get("message"), f"{named} is named")
        if part in {"hub", "proxy"}:
            assert "JupyterHub" in str(trouble)
    eventually(lambda: rows(stack)[0] == 200, f"200 when {part} goes on")

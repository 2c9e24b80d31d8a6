"""Log lines: none contains a secret or a launch id, also those of libraries."""

import io
import json
import logging

import pytest

from services.common.models.ids import launch_ref
from services.common.redis.keys import Kind, Topic
from services.common.service.logging import configure_logging, get_logger

LAUNCH_ID = "1a2091d5c51" + "0f" * 16
REF = launch_ref(LAUNCH_ID)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"/launches/{LAUNCH_ID}/open", f"/launches/{REF}/open"),
        (f"l:{LAUNCH_ID} and {LAUNCH_ID}", f"l:{REF} and {REF}"),
        ([{"path": f"/api/v1/launches/{LAUNCH_ID}"}], [{"path": f"/api/v1/launches/{REF}"}]),
        (Topic(Kind.LAUNCH, LAUNCH_ID), ["l", REF]),
        (LAUNCH_ID.encode(), repr(REF.encode())),
        (ValueError(LAUNCH_ID), f"ValueError('{REF}')"),
        ("a" * 40, "a" * 40),
        ("a" * 64, "a" * 64),
        (7, 7),
        (None, None),
    ],
)
def test_a_line_of_ours_names_launches_by_their_ref(value: object, expected: object, logs: io.StringIO) -> None:
    get_logger("ours").debug("request", path=value)
    assert json.loads(logs.getvalue())["path"] == expected


def test_a_line_of_a_library_does_too_and_its_traceback(logs: io.StringIO) -> None:
    try:
        raise ValueError(f"no l:{LAUNCH_ID}")
    except ValueError:
        logging.getLogger("library").exception("failed at %s", LAUNCH_ID)
    output = logs.getvalue()
    assert json.loads(output)["event"] == f"failed at {REF}"
    assert f"ValueError: no l:{REF}" in output
    assert LAUNCH_ID not in output


SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    "name",
    ["token", "hub_api_token", "Authorization", "service_secret", "redis_password", "cookie", "credentials", "api_key"],
)
def test_a_value_that_is_named_for_a_secret_is_left_out_however_deep(name: str, logs: io.StringIO) -> None:
    get_logger("ours").info("asked", **{name: SECRET}, sent={"headers": [{name: SECRET, "accept": "*/*"}]})
    line = json.loads(logs.getvalue())
    assert line[name] == "[secret]"
    assert line["sent"] == {"headers": [{name: "[secret]", "accept": "*/*"}]}


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.usefixtures("logs")
def test_no_line_of_ours_or_of_a_library_has_a_secret(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(service="tests", level="debug", form=form)
    url = f"redis://:{SECRET}@10.0.0.1:6379/0"
    try:
        raise ConnectionError(f"no {url}")
    except ConnectionError as error:
        get_logger("ours").exception("redis_away", error=error, tried=[url, url.encode()], token=SECRET)
        logging.getLogger("library").exception("no answer of %s with %s", url, {"Authorization": f"Bearer {SECRET}"})
    logging.getLogger("library").warning("GET /hub/oauth_callback?code=%s&state=%s", SECRET, SECRET)
    output = capsys.readouterr().err
    assert SECRET not in output
    assert output.count("ConnectionError: no redis://:[secret]@10.0.0.1:6379/0") == 2
    assert "state=[secret]" in output

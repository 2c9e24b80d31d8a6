"""A misspelt setting is not passed over in silence."""

import io
import json
from pathlib import Path

import pytest

from services.common.service.setting_names import SettingsFileError, UnknownSettingError, warn_of_unknown_variables
from services.common.service.settings import ServiceSettings
from services.common.web.app import create_service
from services.launcher.settings import LauncherSettings
from services.resolver.settings import ResolverSettings
from tests.support.logs import line_of
from tests.support.settings import settings_for


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bindery.yaml"
    monkeypatch.setenv("BINDERY_CONFIG_FILE", str(path))
    return path


def test_a_file_may_hold_settings_of_several_services(config: Path) -> None:
    config.write_text("seats_total: 20\nforge_timeout_seconds: 3\nlog_level: debug\n")

    assert LauncherSettings().seats_total == 20
    assert ResolverSettings().forge_timeout_seconds == 3
    assert ServiceSettings().log_level == "debug"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("seat_total", "'seat_total' (did you mean 'seats_total'?)"),
        ("BINDERY_SEATS_TOTAL", "'BINDERY_SEATS_TOTAL' (did you mean 'seats_total'?)"),
        ("colour_of_the_sky", "'colour_of_the_sky'."),
    ],
)
def test_a_name_that_no_service_knows_is_refused_with_the_closest_one(config: Path, name: str, says: str) -> None:
    config.write_text(f"log_level: debug\n{name}: 20\n")

    with pytest.raises(UnknownSettingError) as raised:
        LauncherSettings()

    assert str(config) in str(raised.value)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"sesame\n", "it must have lines such as `seats_total: 20`."),
        (b"- sesame\n", "it must have lines such as `seats_total: 20`."),
        (b"20\n", "it must have lines such as `seats_total: 20`."),
        (b"on: sesame\n", "it must have lines such as `seats_total: 20`."),
        (b"log_level: \xff\n", "it is not in UTF-8."),
    ],
)
def test_a_file_of_anything_but_names_and_values_is_refused_and_stays_secret(
    config: Path, content: bytes, says: str
) -> None:
    config.write_bytes(content)
    with pytest.raises(SettingsFileError) as raised:
        ServiceSettings()
    assert str(raised.value) == f"The file that BINDERY_CONFIG_FILE names makes no sense: {says}"


@pytest.mark.parametrize("content", ["", "# log_level: debug\n"])
def test_a_file_may_be_empty(config: Path, content: str) -> None:
    config.write_text(content)
    assert ServiceSettings().log_level == "info"


@pytest.mark.parametrize("name", ["none.yaml", "folder", "n" * 300])
def test_a_file_that_is_missing_or_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Docker makes a folder where a file that it is to mount is missing."""
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("BINDERY_CONFIG_FILE", str(tmp_path / name))
    with pytest.raises(SettingsFileError) as raised:
        ServiceSettings()
    assert str(raised.value) == (
        f"BINDERY_CONFIG_FILE names {tmp_path / name}, which is no file that this process can see: name one, or none."
    )


def test_a_misspelt_variable_is_warned_of_with_the_closest_name(logs: io.StringIO) -> None:
    warn_of_unknown_variables({"BINDERY_SEAT_TOTAL": "20", "BINDERY_SEATS_TOTAL": "20", "HOME": "/"})

    line = line_of(logs, "setting_unknown")
    assert (line["level"], line["variable"], line["closest"]) == (
        "warning",
        "BINDERY_SEAT_TOTAL",
        "BINDERY_SEATS_TOTAL",
    )


def test_variables_of_other_parts_of_tests_and_of_kubernetes_are_not(logs: io.StringIO) -> None:
    service = {
        "BINDERY_GATEWAY_SERVICE_HOST": "10.0.0.7",
        "BINDERY_GATEWAY_SERVICE_PORT": "80",
        "BINDERY_GATEWAY_SERVICE_PORT_HTTP": "80",
        "BINDERY_GATEWAY_PORT": "tcp://10.0.0.7:80",
        "BINDERY_GATEWAY_PORT_80_TCP": "tcp://10.0.0.7:80",
        "BINDERY_GATEWAY_PORT_80_TCP_ADDR": "10.0.0.7",
    }
    ours = {"BINDERY_PORT": "9585", "BINDERY_HUB_PORT": "1", "BINDERY_CONFIG_FILE": "/x", "BINDERY_TEST_CACHE": "/x"}

    warn_of_unknown_variables(service | ours)

    assert "setting_unknown" not in logs.getvalue()


def test_a_variable_that_only_ends_as_those_of_kubernetes_is_warned_of(logs: io.StringIO) -> None:
    warn_of_unknown_variables({"BINDERY_LISTEN_PROT_PORT": "1"})

    assert line_of(logs, "setting_unknown")["variable"] == "BINDERY_LISTEN_PROT_PORT"


def test_a_test_that_misspells_a_setting_fails() -> None:
    with pytest.raises(TypeError, match="LauncherSettings has no setting seat_total"):
        settings_for(LauncherSettings, {"seat_total": 20})


async def test_a_service_tells_which_settings_of_the_file_the_environment_overrides(
    config: Path, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO
) -> None:
    config.write_text("seats_total: 20\nlog_level: info\nallowed_specs: {gh: ['my-org/.*']}\nmetrics_token: sesame\n")
    monkeypatch.setenv("BINDERY_SEATS_TOTAL", "10")
    monkeypatch.setenv("BINDERY_METRICS_TOKEN", "")
    monkeypatch.setenv("BINDERY_LOG_LEVEL", "info")
    monkeypatch.setenv("BINDERY_ALLOWED_SPECS", '{"gh":["my-org/.*"]}')
    app = create_service(settings_for(ServiceSettings, {"service_token": "t" * 32}), name="resolver")
    async with app.router.lifespan_context(app):
        pass
    lines = [line for line in logs.getvalue().splitlines() if "setting_overridden" in line]
    assert [json.loads(line)["variable"] for line in lines] == ["BINDERY_SEATS_TOTAL", "BINDERY_METRICS_TOKEN"]
    assert "sesame" not in logs.getvalue()

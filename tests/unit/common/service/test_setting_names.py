"""A misspelt setting is not passed over in silence."""

import io
from pathlib import Path

import pytest

from services.common.service.setting_names import UnknownSettingError, warn_of_unknown_variables
from services.common.service.settings import ServiceSettings
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
    config.write_text("seats_total: 20\ngithub_timeout_seconds: 3\nlog_level: debug\n")

    assert LauncherSettings().seats_total == 20
    assert ResolverSettings().github_timeout_seconds == 3
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

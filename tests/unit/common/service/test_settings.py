"""Settings that exclude each other are refused at the start, with a sentence that says what to do."""

import annotated_types
import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from docs.generate.variables import GROUPS
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.settings import BuilderSettings
from services.common.service.settings import CLIENT_KEEPALIVE_SECONDS, ServiceSettings
from services.common.service.start import start_sentence
from services.gateway.settings import GatewaySettings
from services.launcher.settings import LauncherSettings
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for

NEGATIVE = {"reap_disarmed_seconds"}
"""Times that may be below zero, which means as much as zero."""


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (
            ServiceSettings,
            {"lease_seconds": 4},
            r"BINDERY_LEASE_SECONDS \(4\) must be at least 2.5 times BINDERY_LEASE_RENEW_SECONDS \(2\), .*: raise",
        ),
        (
            ServiceSettings,
            {"lost_check_seconds": 1, "lease_renew_seconds": 2},
            r"BINDERY_LOST_CHECK_SECONDS \(1\) must be at least twice BINDERY_LEASE_RENEW_SECONDS \(2\): raise",
        ),
        (
            LauncherSettings,
            {"loop_stalled_seconds": 120, "reap_round_max_seconds": 120},
            r"BINDERY_LOOP_STALLED_SECONDS \(120\) must be more than BINDERY_REAP_ROUND_MAX_SECONDS \(120\): raise",
        ),
        (
            BuilderSettings,
            {"relist_seconds": 600},
            r"BINDERY_LOOP_STALLED_SECONDS \(300\) must be more than BINDERY_RELIST_SECONDS \(600\): raise",
        ),
        (
            BuilderSettings,
            {"build_stop_seconds": 301},
            r"BINDERY_LOOP_STALLED_SECONDS \(300\) must be more than BINDERY_BUILD_STOP_SECONDS \(301\): raise",
        ),
        (
            KubernetesSettings,
            {"kubernetes_watch_seconds": 120},
            r"BINDERY_KUBERNETES_STALE_SECONDS \(120\) must be more than BINDERY_KUBERNETES_WATCH_SECONDS \(120\)",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    kind: type[ServiceSettings], values: dict[str, object], says: str
) -> None:
    settings_for(kind)
    with pytest.raises(ValidationError, match=says):
        settings_for(kind, values)


@pytest.mark.parametrize("kind", [kind for _, kind, _ in GROUPS], ids=lambda kind: kind.__name__)
def test_every_time_has_a_least_value(kind: type[BaseSettings]) -> None:
    """Zero may wait without end, not at all, or in a busy loop: where it has no meaning of its own it is refused."""
    times = {name: field for name, field in kind.model_fields.items() if name.endswith("_seconds")}
    assert times
    bounds = (annotated_types.Gt, annotated_types.Ge)
    unbounded = [name for name, field in times.items() if not any(isinstance(item, bounds) for item in field.metadata)]
    assert [name for name in unbounded if name not in NEGATIVE] == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ServiceSettings, "redis_timeout_seconds"),
        (GatewaySettings, "stage_timeout_seconds"),
        (ResolverSettings, "git_timeout_seconds"),
        (BuilderSettings, "job_poll_seconds"),
        (LauncherSettings, "hub_timeout_seconds"),
        (KubernetesSettings, "kubernetes_read_timeout_seconds"),
    ],
)
@pytest.mark.parametrize(
    ("value", "fault"),
    [("", "should be a valid number"), ("0", "should be greater than 0"), ("nan", "should be greater than 0")],
)
def test_a_time_that_makes_no_sense_is_one_sentence(
    kind: type[BaseSettings], name: str, value: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BINDERY_{name.upper()}", value)
    with pytest.raises(ValidationError) as raised:
        kind()
    sentence = start_sentence(raised.value)
    assert sentence.startswith(f"The settings make no sense: BINDERY_{name.upper()}: Input {fault}")


def test_a_service_keeps_connections_for_longer_than_the_services_that_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HTTP_KEEPALIVE_SECONDS", str(CLIENT_KEEPALIVE_SECONDS))
    with pytest.raises(ValidationError) as raised:
        ServiceSettings()
    fault = "BINDERY_HTTP_KEEPALIVE_SECONDS: Input should be greater than or equal to 65"
    assert start_sentence(raised.value).startswith(f"The settings make no sense: {fault}")


def test_a_token_of_two_words_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HUB_API_TOKEN", "two words")
    with pytest.raises(ValidationError) as raised:
        LauncherSettings()
    sentence = start_sentence(raised.value)
    assert sentence.startswith("The settings make no sense: BINDERY_HUB_API_TOKEN: ")
    assert "it has spaces or line breaks, which no token of a hub has" in sentence
    assert "two words" not in sentence


def test_the_end_of_a_line_is_no_part_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_HUB_API_TOKEN", "a-token\n")
    monkeypatch.setenv("BINDERY_REDIS_URL", "redis://redis:6379/0\n")
    settings = LauncherSettings()
    assert settings.hub_api_token.get_secret_value() == "a-token"
    assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"

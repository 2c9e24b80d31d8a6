"""Settings that exclude each other are refused at the start, with a sentence that says what to do."""

import pytest
from pydantic import ValidationError

from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.settings import BuilderSettings
from services.common.service.settings import ServiceSettings
from services.launcher.settings import LauncherSettings
from tests.support.settings import settings_for


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

"""The rule by which tests play KEDA."""

import pytest

from tests.support.keda import Scaling

FROM_NONE = Scaling(
    target="worker", server="http://prometheus", query="q", threshold=2, activation=0, least=0, most=3,
    polling_seconds=2, cooldown_seconds=5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "current", "idle_seconds", "wanted"),
    [
        (0, 0, 0, 0),
        (40, 0, 0, 1),
        (40, 1, 0, 3),
        (5, 3, 0, 3),
        (4, 3, 0, 2),
        (1, 3, 0, 1),
        (0, 3, 4, 1),
        (0, 1, 4, 1),
        (0, 1, 6, 0),
    ],
)
def test_keda_decides_on_none_and_the_first_and_its_autoscaler_on_all_others(
    value: float, current: int, idle_seconds: float, wanted: int
) -> None:
    assert FROM_NONE.replicas(value, current, idle_seconds=idle_seconds) == wanted

"""KEDA, as far as a ScaledObject with one trigger for Prometheus needs it: its question, and the replicas it wants.

For none and the first replica the rules are KEDA's own (pkg/scaling/executor, pkg/scalers/prometheus_scaler.go). For
all others they are those of the HorizontalPodAutoscaler that it makes, here without tolerance, and without the 5
minutes for which that one waits before it takes replicas away.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

from tests.support.helm import Manifest


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What a ScaledObject says. Times are in seconds."""

    target: str
    """The Deployment."""
    server: str
    query: str
    threshold: float
    activation: float
    least: int
    most: int
    polling_seconds: float
    cooldown_seconds: float

    @classmethod
    def of(cls, scaled_object: Manifest) -> Self:
        spec: dict[str, Any] = scaled_object["spec"]
        [trigger] = spec["triggers"]
        assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
        asked = trigger["metadata"]
        return cls(
            target=spec["scaleTargetRef"]["name"],
            server=asked["serverAddress"],
            query=asked["query"],
            threshold=float(asked["threshold"]),
            activation=float(asked["activationThreshold"]),
            least=spec["minReplicaCount"],
            most=spec["maxReplicaCount"],
            polling_seconds=spec["pollingInterval"],
            cooldown_seconds=spec["cooldownPeriod"],
        )

    def replicas(self, value: float, current: int, *, idle_seconds: float) -> int:
        """Return how many replicas there should be, `idle_seconds` after the value was last above the activation's."""
        is_active = value > self.activation
        if current == 0:
            return max(1, self.least) if is_active else self.least
        if not is_active and self.least == 0 and idle_seconds > self.cooldown_seconds:
            return 0
        return min(max(math.ceil(value / self.threshold), self.least, 1), self.most)

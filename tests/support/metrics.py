"""The value of a metric of this process, as Prometheus would read it."""

from prometheus_client import REGISTRY


def sample(name: str, **labels: str) -> float:
    """Return the sample of that name and those labels; 0 while there is none. A counter's name ends in `_total`."""
    return REGISTRY.get_sample_value(name, labels) or 0.0

"""docs/metrics.md: every metric, by the service that exposes it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.settings import CHECKOUT
from docs.generate.markdown import NOTE, table

SERVICES = CHECKOUT / "services"
TITLES = {
    "common": "Every service",
    "gateway": "Gateway",
    "resolver": "Resolver",
    "builder": "Builder's API and workers",
    "launcher": "Launcher",
}


@dataclass(frozen=True)
class Metric:
    """A metric as the code declares it."""

    service: str
    kind: str
    name: str
    meaning: str
    labels: tuple[str, ...]


def metrics_page() -> str:
    """Return the page."""
    metrics = [metric for path in sorted(SERVICES.rglob("*.py")) for metric in _declared_in(path)]

    parts = [
        f"# Metrics\n\n{NOTE}\n",
        "Every service answers `GET /metrics` in Prometheus's text format. Anybody may read it, unless "
        "`BINDERY_METRICS_TOKEN` is set, which a request must then show. `GET /health` says whether the service and "
        "what it depends on work. Histograms are in seconds. Labels contain neither repositories nor users. "
        "[Running Bindery](operators.md#metrics-to-watch) says which to watch, and from which value on.\n",
    ]
    for service, title in TITLES.items():
        rows = [_row(metric) for metric in metrics if metric.service == service]
        parts.append(f"## {title}\n\n{table(('Metric', 'Kind', 'Labels', 'Meaning'), rows)}")
    return "\n".join(parts)


def _declared_in(path: Path) -> Iterator[Metric]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Name(id="Counter" | "Gauge" | "Histogram" as kind),
                args=[ast.Constant(value=str(name)), ast.Constant(value=str(meaning)), *rest],
            ):
                labels: list[str] = ast.literal_eval(rest[0]) if rest else []
                service = path.relative_to(SERVICES).parts[0]
                yield Metric(service, kind.lower(), name, meaning, tuple(labels))


def _row(metric: Metric) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`{metric.name}`", metric.kind, labels or "none", metric.meaning

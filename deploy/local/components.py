"""The components of the stack, each a process: the type, their names, and the order in which they end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.local.health import HealthCheck, always_healthy

STOP_ORDER = ("gateway", "launcher", "worker", "builder", "resolver", "culler", "hub", "proxy", "redis")
"""The kinds in the order in which they end: first those that accept work, last the one that keeps the records."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One process of the stack."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: HealthCheck = always_healthy
    after: tuple[str, ...] = ()
    """Names of components that must have been healthy once before this one starts."""
    needs: tuple[str, ...] = ()
    """Kinds of further components without which this one runs, but is not healthy."""
    descriptors: tuple[int, ...] = ()
    """Open sockets that it inherits."""

    @property
    def kind(self) -> str:
        """Name without its number."""
        return kind_of(self.name)


def component_name(kind: str, number: int) -> str:
    """Return the name of one component of a kind, counted from 1."""
    return kind if number == 1 else f"{kind}-{number}"


def kind_of(name: str) -> str:
    """Return a component's name without its number: `worker` for `worker-2`."""
    return name.partition("-")[0]


def stop_stages(components: Sequence[Component]) -> list[list[str]]:
    """Return the components' names in the order in which they end; those of one stage end together."""
    others = [component.name for component in components if component.kind not in STOP_ORDER]
    stages = [[component.name for component in components if component.kind == kind] for kind in STOP_ORDER]
    return [others, *stages]

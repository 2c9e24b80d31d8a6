"""Stacks that differ from `bindery up` in some component: their program, and a second one of a component."""

from dataclasses import replace
from pathlib import Path

from deploy.local.components import Component, component_name
from deploy.local.health import socket_health
from deploy.local.settings import StartupError, read_settings
from deploy.local.up import Planner, up

_HEALTH_SECONDS = 2.0


def run_stack(planner: Planner) -> int:
    """Run the stack that a planner plans, as `bindery up` runs its own, and return the exit status."""
    try:
        return up(read_settings(), planner=planner)
    except StartupError as error:
        print(error)
        return 1


def second_of(component: Component) -> Component:
    """Return another process of a service that listens at a socket, with a socket of its own."""
    name = component_name(component.kind, 2)
    socket = Path(component.environment["BINDERY_LISTEN_SOCKET"]).with_name(f"{name}.sock")
    environment = {**component.environment, "BINDERY_LISTEN_SOCKET": str(socket)}
    health = socket_health(socket, _HEALTH_SECONDS, environment["BINDERY_SERVICE_TOKEN"])
    return replace(component, name=name, environment=environment, health=health)

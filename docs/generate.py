"""Writes the pages that are made from the code: `python -m docs.generate`, or `make docs`.

What stands in the code is said once, there; what a reader needs beyond it (what to do about an error, what a variable
of the hub's configuration is for) stands here. `tests/unit/docs/test_generate.py` holds the pages to both.
"""

import ast
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deploy.local.installation import Installation
from deploy.local.plan import HUB_CONFIG, plan_components
from deploy.local.ports import HeldPort, Ports
from deploy.local.settings import CHECKOUT
from deploy.local.settings import Settings as UpSettings
from deploy.local.variables import VARIABLES_FILE
from docs.advice import ADVICE
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.registry.settings import RegistrySettings
from services.builder.settings import BuilderSettings
from services.common.models.error_codes import KINDS, ErrorKind
from services.common.net.settings import OutboundSettings
from services.common.redis.families import ARQ_FAMILIES, CHANNELS, FAMILIES, Family, Service
from services.common.redis.users import USERS_FILE, users_file
from services.common.service.setting_names import NAMES_FILE
from services.common.service.settings import ServiceSettings
from services.gateway.pages.badges import badge_svg
from services.gateway.settings import GatewaySettings
from services.launcher.settings import LauncherSettings
from services.resolver.settings import ResolverSettings

DOCS = Path(__file__).resolve().parent
CODE = ("services", "deploy", "bindery")
NOTE = "<!-- Made by docs/generate.py from the code: `make docs` writes it anew. -->"

GROUPS: Sequence[tuple[str, type[BaseSettings], str]] = (
    ("`make up`", UpSettings, "Read by `make up` itself, from the environment only."),
    ("Every service", ServiceSettings, "Read by the gateway, the resolver, the builder, its workers and the launcher."),
    ("Asking outside", OutboundSettings, "Read by the resolver, the builder and its workers."),
    ("Gateway", GatewaySettings, "Read by each gateway."),
    ("Resolver", ResolverSettings, "Read by the resolver."),
    ("Builder", BuilderSettings, "Read by the builder's API and by its workers."),
    (
        "The image registry",
        RegistrySettings,
        "Read by builder and workers, for executors that push: [more](registry.md).",
    ),
    (
        "Containers of an engine",
        DockerSettings,
        "Read by builder workers and API with the `docker` executor.",
    ),
    ("Jobs on Kubernetes", KubernetesSettings, "Read by builder workers and API with the `kubernetes` executor."),
    ("Launcher", LauncherSettings, "Read by the launcher."),
)

READERS: Mapping[str, tuple[type[BaseSettings], ...]] = {
    "gateway": (GatewaySettings,),
    "resolver": (ResolverSettings,),
    "builder": (BuilderSettings, DockerSettings, KubernetesSettings),
    "worker": (BuilderSettings, DockerSettings, KubernetesSettings),
    "launcher": (LauncherSettings,),
}
"""Whose settings a part of `make up` has."""

UNUSED = {
    "resolver": {"BINDERY_INSTALLATION_SECRET"},
    "builder": {"BINDERY_INSTALLATION_SECRET", "BINDERY_GIT_CREDENTIALS"},
    "worker": {"BINDERY_INSTALLATION_SECRET", "BINDERY_OPERATOR_TOKEN"},
}
"""Secrets that a part's settings have and the part does not use."""

HUB = {
    "BINDERY_HUB_CONFIG_FILE": "A file of yours that the hub's configuration reads last: it may change everything.",
    "BINDERY_HUB_LISTEN_HOST": "Address that the hub itself listens on; empty: 127.0.0.1.",
    "BINDERY_HUB_STOPS_SERVERS": "Whether servers end when the hub is told to end; else they go on, and it finds them "
    "again.",
    "BINDERY_HUB_CONNECT_URL": "Where the proxy reaches the hub, if not where it listens.",
    "BINDERY_SERVERS_NETWORK": "The engine's network for servers in containers: "
    "[which](hubs.md#servers-in-containers).",
    "BINDERY_SERVERS_NAMESPACE": "The namespace for servers in pods, if not the hub's own.",
    "BINDERY_CONCURRENT_SPAWN_LIMIT": "Servers that the hub starts at once; the launcher asks again for more.",
    "BINDERY_SERVER_POLL_SECONDS": "How often the hub looks whether a server still runs, and when it was last used.",
    "BINDERY_SERVER_START_TIMEOUT_SECONDS": "How long a server may take from its start to its first answer. The "
    "launcher reads the same variable, with the same default, for the whole start.",
    "BINDERY_HUB_BIND_URL": "Address of the proxy, for browsers.",
    "BINDERY_HUB_PORT": "Port of the hub itself.",
    "BINDERY_CULLER_API_TOKEN": "Token of the idle culler.",
    "BINDERY_PROXY_API_URL": "Where the proxy tells about itself.",
    "BINDERY_PROXY_API_USERNAME": "User name for that.",
    "BINDERY_PROXY_API_PASSWORD": "Password for that.",
    "BINDERY_PROXY_RULES_FILE": "The file by which the hub tells the proxy its routes.",
}
"""Variables that only the hub's configuration reads, beside those that it shares with services."""

OTHERS = {
    "BINDERY_CONFIG_FILE": ("none", "A YAML file with settings of the services; the environment wins over it."),
    "BINDERY_GATEWAY_URL": (
        "`http://127.0.0.1:8585`",
        "The gateway that `bindery launch` asks, unless told otherwise.",
    ),
}

FOR_TESTS = {"BINDERY_TEST_CACHE", "BINDERY_TEST_ENGINE_CACHE"}
"""Not settings: read by tests alone."""

PHASES = {
    None: "The request",
    "resolving": "Finding the repository",
    "building": "Building its environment",
    "launching": "Starting its server",
}
MOVERS = {"user": "yours", "author": "the author's", "operator": "the operator's", "upstream": "the host's"}


# Settings


@dataclass(frozen=True)
class Named:
    """A setting as the page shows it."""

    name: str
    default: str
    meaning: str


def settings_page() -> str:
    """Every setting, by who reads it."""
    forced, preset = _told_by_up()
    parts = [
        f"# Settings\n\n{NOTE}\n",
        "A setting is an environment variable. Durations are in seconds and sizes in bytes, as the names say. With "
        "`make up`, set them in front of it:\n\n"
        "```sh\nBINDERY_PORT=9585 BINDERY_WORKERS=2 make up\n```\n\n"
        "Services also read a YAML file, named by `BINDERY_CONFIG_FILE`; in it names are in lower case and without "
        "the prefix (`seats_total: 20`). Lists of links are JSON in the environment: "
        '`BINDERY_BANNED_SPECS=\'{"gh": ["spammer/.*"]}\'`.\n\n'
        "**†** marks what `make up` sets itself, whatever you say: it matters only to who runs the services in "
        "another way.\n",
    ]
    for title, kind, meaning in GROUPS:
        inherited = {name for base in kind.__bases__ for name in getattr(base, "model_fields", {})}
        rows = [_setting(name, field, preset) for name, field in kind.model_fields.items() if name not in inherited]
        parts.append(f"## {title}\n\n{meaning}\n\n{_settings_table(rows, forced)}")
    rows = [Named(name, _hub_defaults().get(name, "none"), meaning) for name, meaning in HUB.items()]
    parts.append(f"## The hub's configuration\n\nRead by `deploy/jupyterhub`.\n\n{_settings_table(rows, forced)}")
    rows = [Named(name, default, meaning) for name, (default, meaning) in OTHERS.items()]
    parts.append(f"## Elsewhere\n\n{_settings_table(rows, set())}")
    return "\n".join(parts)


def setting_names() -> set[str]:
    """Every variable that the page documents."""
    fields = {f"BINDERY_{name.upper()}" for _, kind, _ in GROUPS for name in kind.model_fields}
    return fields | set(HUB) | set(OTHERS)


def names_in_code() -> set[str]:
    """Every variable that the code speaks of by its whole name."""
    found: set[str] = set()
    for folder in CODE:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in {".py", ".sh", ".html", ".js"}:
                found |= set(re.findall(r"\bBINDERY_[A-Z_]*[A-Z]\b", path.read_text()))
    return found - FOR_TESTS


def known_settings() -> str:
    """The names that services know, in a file and in the environment (`services/common/service` reads it)."""
    services = {name for _, kind, _ in GROUPS if issubclass(kind, ServiceSettings) for name in kind.model_fields}
    names = {"services": sorted(services), "environment": sorted(setting_names())}
    return json.dumps(names, indent=1, sort_keys=True) + "\n"


def variables_of_parts() -> str:
    """What of the user's settings each part of `make up` gets (`deploy/local/variables.py` reads it)."""
    found = {
        part: {f"BINDERY_{name.upper()}" for kind in kinds for name in kind.model_fields} | {"BINDERY_CONFIG_FILE"}
        for part, kinds in READERS.items()
    }
    texts = "".join(file.read_text() for file in sorted(HUB_CONFIG.parent.glob("*.py")))
    found["hub"] = set(re.findall(r"\bBINDERY_[A-Z_]*[A-Z]\b", texts))
    lists = {part: sorted(names - UNUSED.get(part, set())) for part, names in found.items()}
    return json.dumps(lists, indent=1, sort_keys=True) + "\n"


def _setting(name: str, field: FieldInfo, preset: dict[str, str]) -> Named:
    variable = f"BINDERY_{name.upper()}"
    default = _default(name, field)
    if variable in preset:
        default += f"; `make up`: `{preset[variable]}`"
    return Named(variable, default, field.description or "")


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr) and field.default_factory:
        return "a new one at each start"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = value.relative_to(CHECKOUT) if value.is_absolute() else value
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value in ("", {}):
        return "none" if value is None else "empty"
    if isinstance(value, int | float):
        return f"`{int(value) if value == int(value) else value}`{_in_words(name, value)}"
    return f"`{value}`"


def _in_words(name: str, value: float) -> str:
    if name.endswith("_seconds"):
        units = [(86400, "d"), (3600, "h"), (60, "min")]
    elif name.endswith("_bytes"):
        units = [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")]
    else:
        return ""
    return next((f" ({value / size:g} {unit})" for size, unit in units if value >= size and value % size == 0), "")


def _settings_table(rows: Iterable[Named], forced: set[str]) -> str:
    shown = [(f"`{row.name}`" + (" †" if row.name in forced else ""), row.default, row.meaning) for row in rows]
    return _table(("Setting", "Default", "Meaning"), shown)


def _told_by_up() -> tuple[set[str], dict[str, str]]:
    """What the embedded stack sets: whatever the user says, and where the user says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        defaults = {
            name: field.get_default(call_default_factory=True) for name, field in UpSettings.model_fields.items()
        }
        settings = UpSettings.model_construct(**defaults | {"data_dir": Path(folder)})
        ports = Ports((HeldPort(settings.port, ()),), *(HeldPort(0, ()) for _ in range(3)))
        said = dict.fromkeys((f"BINDERY_{name.upper()}" for _, kind, _ in GROUPS for name in kind.model_fields), "said")
        forced, preset = (
            {
                name: value
                for part in plan_components(settings, Installation(), httpx.AsyncClient(), environ, ports)
                for name, value in part.environment.items()
                if name.startswith("BINDERY_") and value != environ.get(name)
            }
            for environ in (said, {})
        )
    own = {f"BINDERY_{name.upper()}" for name in UpSettings.model_fields}  # it passes these on as they were set
    return set(forced) - own, {name: value for name, value in preset.items() if name not in forced}


def _hub_defaults() -> dict[str, str]:
    texts = "".join(file.read_text() for file in sorted(HUB_CONFIG.parent.glob("*config*.py")))
    given = re.findall(r"environ\.get\([\"'](BINDERY_\w+)[\"'], [\"'](\w*)[\"']\)", texts)
    return {name: f"`{value}`" for name, value in given if value}


# Errors


def errors_page() -> str:
    """The closed list of codes, by the step that they belong to."""
    parts = [
        f"# Errors\n\n{NOTE}\n",
        "Every error that Bindery shows has one of these codes. It stands in the `code` of an answer "
        "(`application/problem+json`), in the `error` of a launch, a build or an event, on the page, and in square "
        "brackets at the end of what `bindery launch` prints. The list is closed: a program may rely on it, and reads "
        "what it does not know as `unknown`.\n\n"
        "*Move* says who can do something about it: you, the author of the repository, the operator of this Bindery, "
        "or the host of the repository. *Retry* says whether trying the same again can help, and after how long at the "
        "earliest.\n",
    ]
    for phase, title in PHASES.items():
        rows = [_error_row(kind) for kind in KINDS.values() if kind.phase == phase]
        parts.append(f"## {title}\n\n{_table(('Code', 'HTTP', 'Move', 'Retry', 'What it says, and what to do'), rows)}")
    return "\n".join(parts)


def _error_row(kind: ErrorKind) -> tuple[str, ...]:
    retry = "no"
    if kind.can_retry:
        retry = f"after {kind.retry_after_seconds:g} s" if kind.retry_after_seconds else "yes"
    said = f"*{kind.title}.* {ADVICE[kind.code]}"
    return f"`{kind.code}`", str(kind.status), MOVERS[kind.mover], retry, said


# Redis and metrics


def redis_page() -> str:
    """Every family of keys."""
    natures = {
        "record": "Records: losing one loses something that a user could ask for",
        "work": "Work in progress: gone when nothing is under way",
        "cache": "Caches: losing one costs time",
    }
    parts = [
        f"# Keys in Redis\n\n{NOTE}\n",
        "Every key begins with `<BINDERY_REDIS_PREFIX>:<BINDERY_INSTALLATION_ID>:`. What follows stands below, with "
        "`*` for what differs: `b:` is a build, `l:` a launch, `s:` a server, `i:` an image. Each service has "
        "[a user of its own](redis.md), which may write and read what the last two columns say, and nothing beside it; "
        "of the keys of processes (`alive:*` to `sweep:*`), those of its own stage.\n",
    ]
    head = ("Keys", "What they hold", "When they go", "Written by", "Read by")
    for nature, title in natures.items():
        rows = [_family_row(family) for family in FAMILIES if family.nature == nature]
        parts.append(f"## {title}\n\n{_table(head, rows)}")
    parts.append(
        "## Keys of arq\n\narq names these itself: `{prefix}` is what all other keys begin with.\n\n"
        + _table(head, map(_family_row, ARQ_FAMILIES))
    )
    channels = [(f"`{one.pattern}`", one.meaning, _names(one.services)) for one in CHANNELS]
    parts.append(
        "## Channels\n\nThey begin like keys. Redis does not tell who may publish from who may listen.\n\n"
        + _table(("Channels", "What is said there", "Who publishes or listens"), channels)
    )
    return "\n".join(parts)


def _family_row(family: Family) -> tuple[str, ...]:
    who = (_names(family.access.writes), _names(family.access.reads))
    return f"`{family.pattern}`", family.meaning, _with_variables(family.expiry), *who


def _names(services: Iterable[Service]) -> str:
    found = set(services)
    return ", ".join(service for service in Service if service in found) or "nobody"


def _with_variables(text: str) -> str:
    return re.sub(r"\b\w+_(?:seconds|bytes)\b", lambda found: f"`BINDERY_{found[0].upper()}`", text)


@dataclass(frozen=True)
class Metric:
    """A metric as the code declares it."""

    service: str
    kind: str
    name: str
    meaning: str
    labels: tuple[str, ...]


def metrics() -> list[Metric]:
    """Every metric that the services declare."""
    found = []
    for path in sorted((CHECKOUT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="Counter" | "Gauge" | "Histogram" as kind),
                    args=[ast.Constant(value=str(name)), ast.Constant(value=str(meaning)), *rest],
                ):
                    labels: list[str] = ast.literal_eval(rest[0]) if rest else []
                    service = path.relative_to(CHECKOUT / "services").parts[0]
                    found.append(Metric(service, kind.lower(), name, meaning, tuple(labels)))
    return found


def metrics_page() -> str:
    """Every metric, by who exposes it."""
    titles = {
        "common": "Every service",
        "gateway": "Gateway",
        "resolver": "Resolver",
        "builder": "Builder's API and workers",
        "launcher": "Launcher",
    }
    parts = [
        f"# Metrics\n\n{NOTE}\n",
        "Every service answers `GET /metrics` in Prometheus's text format, to anybody or to who has "
        "`BINDERY_METRICS_TOKEN`, and `GET /health` with what it has found of its own dependencies. A histogram counts "
        "seconds. Repositories and users are in no label.\n",
    ]
    for service, title in titles.items():
        rows = [
            (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels) or "none", one.meaning)
            for one in metrics()
            if one.service == service
        ]
        parts.append(f"## {title}\n\n{_table(('Metric', 'Kind', 'Labels', 'What it says'), rows)}")
    return "\n".join(parts)


# Pages


def badge() -> str:
    """The badge, as the gateway serves it."""
    return badge_svg(with_mark=True).decode()


PAGES: dict[str, Callable[[], str]] = {
    "images/badge_logo.svg": badge,
    "errors.md": errors_page,
    "settings.md": settings_page,
    "redis-keys.md": redis_page,
    "metrics.md": metrics_page,
    f"../{USERS_FILE}": users_file,
    f"../{VARIABLES_FILE}": variables_of_parts,
    f"../{NAMES_FILE}": known_settings,
}


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |\n"

    return line(head) + line("---" for _ in head) + "".join(line(row) for row in rows)


def stale() -> Iterator[str]:
    """The pages that are not what the code says now."""
    for name, page in PAGES.items():
        path = DOCS / name
        if not path.exists() or path.read_text() != page():
            yield name


def main() -> int:
    """Write every page that has changed."""
    for name in list(stale()):
        (DOCS / name).write_text(PAGES[name]())
        sys.stdout.write(f"docs/{name} is written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

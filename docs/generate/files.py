"""The generated files: their names, what makes their contents, and which of them are out of date."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.local.variables import VARIABLES_FILE
from docs.generate.chart_values import chart_values_page
from docs.generate.component_variables import component_variables
from docs.generate.errors import errors_page
from docs.generate.metrics import metrics_page
from docs.generate.redis_keys import redis_keys_page
from docs.generate.settings import settings_page
from docs.generate.variables import known_names
from services.common.redis.users import USERS_FILE, users_template
from services.common.service.setting_names import NAMES_FILE
from services.gateway.pages.badges import badge_svg

DOCS = Path(__file__).resolve().parents[1]


def _badge() -> str:
    """Return the badge as the gateway serves it."""
    return badge_svg(with_mark=True).decode()


CONTENTS: Mapping[str, Callable[[], str]] = {
    "images/badge_logo.svg": _badge,
    "errors.md": errors_page,
    "settings.md": settings_page,
    "redis-keys.md": redis_keys_page,
    "metrics.md": metrics_page,
    "helm-values.md": chart_values_page,
    f"../{USERS_FILE}": users_template,
    "../deploy/helm/bindery/files/users.acl": users_template,
    f"../{VARIABLES_FILE}": component_variables,
    f"../{NAMES_FILE}": known_names,
}
"""By file, relative to `docs/`, the function that returns what it must contain."""


def stale() -> Iterator[str]:
    """Yield the names of the files that do not contain what the code says now."""
    for name, contents in CONTENTS.items():
        path = DOCS / name
        if not path.exists() or path.read_text() != contents():
            yield name

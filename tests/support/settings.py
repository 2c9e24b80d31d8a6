"""Settings for tests: a name that the class does not have is an error."""

from collections.abc import Mapping
from typing import TypeVar

from services.common.service.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def settings_for(kind: type[S], base: Mapping[str, object] | None = None, /, **overrides: object) -> S:
    """Return settings with the given values. Raise `TypeError` for a name that `kind` does not have."""
    values = {**(base or {}), **overrides}
    unknown = sorted(values.keys() - kind.model_fields.keys())
    if unknown:
        raise TypeError(f"{kind.__name__} has no setting {', '.join(unknown)}")
    return kind.model_validate(values)

"""A start that fails: the sentence for the operator, where there is one."""

from pydantic import ValidationError

from services.common.models.errors import BinderyError
from services.common.service.setting_names import PREFIX, UnknownSettingError


class CannotStart(Exception):
    """A service can't start as it is configured; the message says what to do. Its process ends with exit status 1."""


def start_sentence(error: BaseException) -> str:
    """Return what to tell the operator of a failed start; nothing for an error that nobody foresaw."""
    if isinstance(error, ValidationError):
        return _settings_sentence(error)
    if isinstance(error, BinderyError):
        return error.detail
    if isinstance(error, CannotStart | UnknownSettingError | SystemExit):
        return str(error)
    return ""


def _settings_sentence(error: ValidationError) -> str:
    """Return one sentence that names each setting that makes no sense; values may be secret, and are left out."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
        name = ".".join(str(part) for part in fault["loc"])
        faults.append(f"{PREFIX}{name.upper()}: {message}" if name else message)
    return f"The settings make no sense: {'; '.join(faults)}."

"""A start that fails: the sentence for the operator, where there is one."""

import re

from pydantic import ValidationError
from pydantic_settings import SettingsError
from yaml import MarkedYAMLError, YAMLError

from services.common.models.errors import BinderyError
from services.common.service.setting_names import PREFIX, SettingsFileError

_FIELD = re.compile(r'field "(\w+)"')


class CannotStart(Exception):
    """A service can't start as it is configured; the message says what to do. Its process ends with exit status 1."""


def start_sentence(error: BaseException) -> str:
    """Return what to tell the operator of a failed start; nothing for an error that nobody foresaw."""
    if isinstance(error, ValidationError):
        return _settings_sentence(error)
    if isinstance(error, SettingsError):
        field = _FIELD.search(str(error))
        return f"The settings make no sense: {PREFIX}{field[1].upper() if field else '…'}: it is no JSON."
    if isinstance(error, YAMLError):
        return f"The file that BINDERY_CONFIG_FILE names is no YAML: {_yaml_place(error)}."
    if isinstance(error, BinderyError):
        return error.detail
    if isinstance(error, CannotStart | SettingsFileError | SystemExit):
        return str(error)
    return ""


def unforeseen_sentence(error: BaseException) -> str:
    """Return what health says of a failed start for which there is no other sentence."""
    return f"The start has failed ({type(error).__name__}): the log of this service says more."


def _yaml_place(error: YAMLError) -> str:
    """Return what is wrong in which line, without the text of the line, which may be secret."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return type(error).__name__


def _settings_sentence(error: ValidationError) -> str:
    """Return one sentence that names each setting that makes no sense; values may be secret, and are left out."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
        name = ".".join(str(part) for part in fault["loc"])
        faults.append(f"{PREFIX}{name.upper()}: {message}" if name else message)
    return f"The settings make no sense: {'; '.join(faults)}."

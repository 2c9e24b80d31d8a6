"""Plug-ins of the builder: one that can't be loaded is named, with the setting that selects it."""

from importlib.metadata import EntryPoint

import pytest

from services.builder.executors import factory
from services.builder.executors.factory import make_executor
from services.builder.registry import credential_sources
from services.builder.registry.credential_sources import make_credentials
from services.builder.registry.settings import RegistrySettings
from services.builder.settings import BuilderSettings
from services.common.service.start import CannotStart, start_sentence
from tests.support.settings import settings_for


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:make", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:loads", "TypeError: the JSON object must be str, bytes or bytearray, not BuilderSettings"),
        ("builtins:bool", "TypeError: cannot unpack non-iterable bool object"),
    ],
)
def test_an_executor_of_another_package_that_can_not_be_loaded_is_named(
    value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("slurm", value, factory.ENTRY_POINTS)
    monkeypatch.setattr(factory, "entry_points", lambda group: [point] if group == "bindery.executors" else [])
    with pytest.raises(CannotStart) as raised:
        make_executor(settings_for(BuilderSettings, {"executor": "slurm"}))
    assert start_sentence(raised.value) == (
        f"The builder can't start: the entry point slurm of bindery.executors can't be loaded ({why}). "
        "Mend or remove its package, or name another one in BINDERY_EXECUTOR."
    )


def test_a_source_of_logins_that_can_not_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("cloud", "no_such_module:Cloud", credential_sources.ENTRY_POINTS)
    monkeypatch.setattr(credential_sources, "entry_points", lambda group: [point] if group == point.group else [])
    with pytest.raises(CannotStart) as raised:
        make_credentials(settings_for(RegistrySettings, {"registry_credentials": "cloud"}))
    assert start_sentence(raised.value) == (
        "The builder can't start: the entry point cloud of bindery.registries can't be loaded (ModuleNotFoundError: "
        "No module named 'no_such_module'). Mend or remove its package, or name another one in "
        "BINDERY_REGISTRY_CREDENTIALS."
    )

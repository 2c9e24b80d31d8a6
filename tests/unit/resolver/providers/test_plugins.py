"""Providers of other packages: one that can't be used is named in the sentence with which the resolver ends."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from services.common.models import ResolvedRepo
from services.common.service.start import CannotStart, start_sentence
from services.resolver import providers
from services.resolver.providers.base import Provider
from services.resolver.providers.git import Git
from services.resolver.settings import ResolverSettings


class Shelf(Git):
    prefix = "shelf"
    name = "Shelf"


class Broken(Shelf):
    def __init__(self, settings: ResolverSettings) -> None:
        raise LookupError("no shelf")


class Unfinished(Provider):
    prefix = "shelf"
    name = "Shelf"


class Unlabelled(Provider):
    @property
    def display_config(self) -> dict[str, object]:
        return {}

    async def resolve(self, spec: str) -> ResolvedRepo:
        raise LookupError(spec)


@pytest.fixture
def a_package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package that is installed, with an entry point `shelf`."""
    module = ModuleType("a_package")
    monkeypatch.setitem(sys.modules, "a_package", module)
    point = EntryPoint("shelf", "a_package:provider", providers.ENTRY_POINTS)
    monkeypatch.setattr(providers, "entry_points", lambda group: [point] if group == point.group else [])
    return module


def sentence() -> str:
    with pytest.raises(CannotStart) as raised:
        providers.load_providers(ResolverSettings())
    return start_sentence(raised.value)


def test_a_whole_provider_is_loaded(a_package: ModuleType) -> None:
    a_package.provider = Shelf  # type: ignore[attr-defined]
    assert isinstance(providers.load_providers(ResolverSettings())["shelf"], Shelf)


def test_a_provider_that_can_not_be_imported_is_named(a_package: ModuleType) -> None:
    assert sentence() == (
        "The resolver can't start: the entry point shelf of bindery.providers can't be loaded "
        "(AttributeError: module 'a_package' has no attribute 'provider'). Mend or remove its package."
    )


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        (object, "is no subclass of Provider"),
        (Shelf(ResolverSettings()), "is no subclass of Provider"),
        (Unlabelled, "is a provider without prefix and name"),
        (Unfinished, "can't be loaded (TypeError: Can't instantiate abstract class Unfinished"),
        (Broken, "can't be loaded (LookupError: no shelf)"),
    ],
)
def test_what_is_no_provider_is_named(a_package: ModuleType, provider: object, fault: str) -> None:
    a_package.provider = provider  # type: ignore[attr-defined]
    said = sentence()
    assert said.startswith(f"The resolver can't start: the entry point shelf of bindery.providers {fault}")
    assert said.endswith(". Mend or remove its package.")


def test_an_operator_chooses_the_providers_and_their_order(a_package: ModuleType) -> None:
    a_package.provider = Shelf  # type: ignore[attr-defined]
    assert list(providers.load_providers(ResolverSettings(providers="shelf, gh"))) == ["shelf", "gh"]


def test_a_provider_that_there_is_not_is_named() -> None:
    with pytest.raises(CannotStart, match="BINDERY_PROVIDERS names nowhere, and there are these providers: gh, "):
        providers.load_providers(ResolverSettings(providers="gh,nowhere"))


def test_there_may_be_several_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shelves(Shelf):
        @classmethod
        def instances(cls, settings: ResolverSettings) -> list[Provider]:
            shelves: list[Provider] = [cls(settings), cls(settings)]
            shelves[1].prefix = "shelf2"
            return shelves

    monkeypatch.setattr(providers, "OURS", (Shelves,))
    assert list(providers.load_providers(ResolverSettings())) == ["shelf", "shelf2"]


def test_two_hosts_with_one_prefix_keep_the_resolver_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_GITLABS", '{"git": {"url": "https://gitlab.com"}}')
    assert "two providers whose links begin with git." in sentence()

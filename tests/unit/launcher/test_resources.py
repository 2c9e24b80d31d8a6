"""Resource classes: which one a repository gets, and what the spawner gets of it."""

import pytest
from pydantic import ValidationError

from services.common.models.errors import BinderyError
from services.launcher.settings import LauncherSettings
from tests.support.in_process_launcher import REPO
from tests.support.settings import settings_for

CLASSES = {
    "default": {"memory_limit": "2G", "cpu_limit": 0.5},
    "large": {"memory_guarantee": "1.5Gi", "memory_limit": 4096, "gpus": 1, "cost": 4},
    "empty": {},
}


def settings(**overrides: object) -> LauncherSettings:
    values = {"resource_classes": CLASSES, "resource_class": "default", **overrides}
    return settings_for(LauncherSettings, values)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (None, {"bindery_resource_class": "default", "bindery_resources": {"memory_limit": 2**31, "cpu_limit": 0.5}}),
        (
            "large",
            {
                "bindery_resource_class": "large",
                "bindery_resources": {"memory_guarantee": 1610612736, "memory_limit": 4096, "gpus": 1},
            },
        ),
        ("empty", {"bindery_resource_class": "empty", "bindery_resources": {}}),
    ],
)
def test_the_spawner_is_told_what_the_repositorys_class_says_and_no_more(
    name: str | None, options: dict[str, object]
) -> None:
    assert settings().classes.for_spawner(REPO.updated(resource_class=name)) == options


def test_without_a_default_a_repository_gets_what_the_spawner_gives() -> None:
    assert settings(resource_class="").classes.for_spawner(REPO) == {}


def test_a_class_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(BinderyError) as raised:
        settings().classes.for_spawner(REPO.updated(resource_class="tiny"))
    assert raised.value.code == "unknown_resource_class"
    assert raised.value.detail == "There is no resource class 'tiny'; there are: default, empty, large."


def test_a_launch_may_ask_for_a_class_that_is_on_offer_and_for_no_other() -> None:
    classes = settings(
        resource_classes={"default": {}, "gpu": {"gpus": 1}, "large": {"cost": 4, "is_offered": True}}
    ).classes
    assert classes.choose(REPO, None) == REPO
    assert classes.choose(REPO, "large").resource_class == "large"
    theirs = REPO.updated(resource_class="gpu")
    assert classes.choose(theirs, "gpu") == theirs
    for class_name in ("gpu", "tiny"):
        with pytest.raises(BinderyError) as raised:
            classes.choose(REPO, class_name)
        assert raised.value.code == "resource_class_not_offered"
        assert raised.value.detail == f"A launch can't ask for the resource class {class_name!r}; on offer: large."


def test_a_repositorys_own_class_that_is_not_there_is_the_operators_to_mend() -> None:
    with pytest.raises(BinderyError) as raised:
        settings().classes.choose(REPO.updated(resource_class="tiny"), None)
    assert raised.value.code == "unknown_resource_class"


def test_classes_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_RESOURCE_CLASSES", '{"gpu": {"gpus": 2, "cost": 8}}')
    monkeypatch.setenv("BINDERY_RESOURCE_CLASS", "gpu")
    classes = LauncherSettings().classes
    assert classes.cost(classes.name_for(REPO)) == 8
    assert classes.cost("gone meanwhile") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource_class": "tiny"},
        {"resource_classes": {"default": {"memory_limit": "much"}}},
        {"resource_classes": {"default": {"memroy_limit": "1G"}}},
        {"resource_classes": {"default": {"cost": 0}}},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)

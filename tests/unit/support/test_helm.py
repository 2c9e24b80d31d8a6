"""What helm prints is read as a cluster should read it, and helm is found where it may lie."""

from pathlib import Path

import pytest

from tests.support import helm
from tests.support.helm import DuplicateKeyError, NoHelmError, installed_helm, parsed


def program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


@pytest.fixture
def cluster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cluster without a helm, on a machine without one."""
    monkeypatch.setattr(helm, "HOME", tmp_path / "cluster")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("BINDERY_TEST_HELM", raising=False)
    return tmp_path / "cluster"


def test_empty_documents_are_left_out() -> None:
    assert parsed("---\n# Source: a.yaml\n---\nkind: A\n---\nkind: B\n") == [{"kind": "A"}, {"kind": "B"}]


def test_a_key_that_is_there_twice_is_refused_with_its_place() -> None:
    with pytest.raises(DuplicateKeyError, match=r"'name' is there twice.*line 4"):
        parsed("kind: A\nmetadata:\n  name: a\n  name: b\n")


def test_a_named_helm_is_used_before_others(
    cluster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(cluster_home / "bin" / "helm")
    monkeypatch.setenv("BINDERY_TEST_HELM", named := program(tmp_path / "another-helm"))

    assert installed_helm().program == named


def test_a_named_helm_that_is_missing_is_not_replaced(cluster_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(cluster_home / "bin" / "helm")
    monkeypatch.setenv("BINDERY_TEST_HELM", "/nowhere/helm")

    with pytest.raises(NoHelmError, match="none is at /nowhere/helm"):
        installed_helm()


def test_the_clusters_helm_is_used_before_that_on_path(cluster_home: Path, tmp_path: Path) -> None:
    on_path = program(tmp_path / "path" / "helm")
    assert installed_helm().program == on_path

    of_cluster = program(cluster_home / "bin" / "helm")
    assert installed_helm().program == of_cluster


def test_without_helm_the_message_says_where_it_was_looked_for(cluster_home: Path) -> None:
    with pytest.raises(NoHelmError, match=f"none is at {cluster_home}/bin/helm or helm;"):
        installed_helm()

"""Helm renders what it is told, and says why it does not."""

from pathlib import Path

import pytest

from tests.support.helm import Helm, HelmError

TEMPLATE = """\
{{- if eq .Values.name "" }}{{ fail "name is missing" }}{{ end }}
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Values.name }}, namespace: {{ .Release.Namespace }}}
data:
  release: {{ .Release.Name }}
  kubernetes: {{ .Capabilities.KubeVersion.Version }}
  hasPears: {{ .Capabilities.APIVersions.Has "fruit.example/v1/Pear" | quote }}
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 0.1.0, icon: 'https://example.org/a'}")
    (folder / "values.yaml").write_text("name: default\n")
    (folder / "templates" / "config.yaml").write_text(TEMPLATE)
    return folder


def test_a_rendering_has_what_the_release_and_the_cluster_are(helm: Helm, chart: Path) -> None:
    (rendered,) = helm.template(
        chart, release="a", namespace="b", kube_version="1.31.2", api_versions=["fruit.example/v1/Pear"]
    )

    assert rendered["metadata"] == {"name": "default", "namespace": "b"}
    assert rendered["data"] == {"release": "a", "kubernetes": "v1.31.2", "hasPears": "true"}


def test_later_values_have_precedence(helm: Helm, chart: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("name: first")
    second.write_text("name: second")

    (of_files,) = helm.template(chart, values_files=[first, second])
    (of_values,) = helm.template(chart, values_files=[first, second], values={"name": "third"})
    assert (of_files["metadata"]["name"], of_values["metadata"]["name"]) == ("second", "third")


def test_a_rendering_that_fails_says_why(helm: Helm, chart: Path) -> None:
    with pytest.raises(HelmError, match="name is missing"):
        helm.template(chart, values={"name": ""})


def test_lint_names_what_it_finds(helm: Helm, chart: Path) -> None:
    assert "0 chart(s) failed" in helm.lint(chart)

    (chart / "templates" / "other.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n")
    with pytest.raises(HelmError, match=r"other.yaml.*does not conform"):
        helm.lint(chart)


def test_without_a_kubeconfig_no_cluster_is_changed(helm: Helm, chart: Path) -> None:
    with pytest.raises(ValueError, match="helm upgrade needs the kubeconfig"):
        helm.upgrade("small", chart, namespace="default")

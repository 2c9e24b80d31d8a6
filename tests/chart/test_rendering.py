"""Whatever values of ours the chart is given, each Kubernetes knows all that it renders."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.cases import CASES, CHART, Values
from tests.chart.conftest import FilesOf
from tests.support.helm import Helm, HelmError, Manifest
from tests.support.manifest_schemas import KUBERNETES, schemas

FREE = {
    "affinity",
    "annotations",
    "authenticationRef",
    "daemonConfig",
    "extraConfig",
    "kubeSpawner",
    "labels",
    "limits",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "requests",
    "selector",
    "serviceAccountAnnotations",
}
"""Values with names that are not ours."""
WORKLOADS = {"DaemonSet", "Deployment", "StatefulSet"}


def identity(manifest: Manifest) -> tuple[str, str, str, str]:
    metadata = manifest["metadata"]
    return manifest["apiVersion"], manifest["kind"], metadata.get("namespace", "bindery"), metadata["name"]


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_knows_every_field_that_is_rendered(
    case: str, kubernetes: str, helm: Helm, files_of: FilesOf
) -> None:
    rendered = helm.template(CHART, values_files=files_of(case), kube_version=kubernetes)

    assert len(rendered) > 30
    assert schemas(kubernetes).problems(rendered) == []
    assert [name for name, count in Counter(map(identity, rendered)).items() if count > 1] == []


@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing_and_a_second_rendering_is_the_same(case: str, helm: Helm, files_of: FilesOf) -> None:
    files = files_of(case)
    helm.lint(CHART, values_files=files)

    assert helm.template(CHART, values_files=files) == helm.template(CHART, values_files=files)


def test_each_part_takes_what_every_part_may_have(helm: Helm, files_of: FilesOf) -> None:
    rendered = helm.template(CHART, values_files=files_of("extras"))
    templates = {each["metadata"]["name"]: each["spec"]["template"] for each in rendered if each["kind"] in WORKLOADS}

    assert len(templates) == 10
    assert [name for name, template in templates.items() if not has_extras(template)] == []


def has_extras(template: Manifest) -> bool:
    """Return whether a pod has all that the case "extras" gives to every part."""
    metadata, spec = template["metadata"], template["spec"]
    first, *_ = spec["containers"]
    extras = CASES["extras"]
    assert isinstance(extras, dict)
    given = extras["everyPart"]
    return all(
        (
            all(each in first["env"] for each in given["extraEnv"]),
            all(each in spec["volumes"] for each in given["extraVolumes"]),
            all(each in first["volumeMounts"] for each in given["extraVolumeMounts"]),
            all(each in spec["initContainers"] for each in given["initContainers"]),
            all({"name": each} in spec["imagePullSecrets"] for each in given["imagePullSecrets"]),
            given["nodeSelector"].items() <= spec["nodeSelector"].items(),
            all(each in spec["tolerations"] for each in given["tolerations"]),
            given["affinity"].items() <= spec["affinity"].items(),
            given["podLabels"].items() <= metadata["labels"].items(),
            given["podAnnotations"].items() <= metadata["annotations"].items(),
        )
    )


def test_without_secrets_of_ones_own_helm_template_asks_for_them(helm: Helm, files_of: FilesOf) -> None:
    with pytest.raises(HelmError) as refusal:
        helm.template(CHART, values_files=files_of("defaults"), values={"secrets.existing": ""})

    assert "Make a Secret with the keys installation-id, " in str(refusal.value)
    assert "--set secrets.existing=NAME" in str(refusal.value)


def test_a_misspelt_value_is_refused_by_name_wherever_it_is(helm: Helm, files_of: FilesOf, tmp_path: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    places = list(named_places(values))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(misspelt(values)))

    with pytest.raises(HelmError) as refusal:
        helm.template(CHART, values_files=[*files_of("defaults"), tmp_path / "values.yaml"])

    assert {"", ".gateway", ".worker.autoscaling.keda"} <= set(places)
    assert [place for place in places if f"misspelt{place}'" not in str(refusal.value)] == []


def named_places(values: Values, place: str = "") -> Iterator[str]:
    """Return where the values have names of ours alone: "", ".gateway", ".gateway.autoscaling" ..."""
    yield place
    for name, value in values.items():
        if isinstance(value, dict) and name not in FREE:
            yield from named_places(value, f"{place}.{name}")


def misspelt(values: Values, place: str = "") -> Values:
    """Return the values with one more in each place, which has the place in its name."""
    inner = {
        name: misspelt(value, f"{place}.{name}") if isinstance(value, dict) and name not in FREE else value
        for name, value in values.items()
    }
    return inner | {f"misspelt{place}": 1}


def test_a_kubernetes_before_1_30_is_refused_with_its_version(helm: Helm, files_of: FilesOf) -> None:
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.30.* incompatible with Kubernetes v1\.29"):
        helm.template(CHART, values_files=files_of("defaults"), kube_version="1.29.0")


def test_workers_scale_to_zero_without_keda_from_1_37_on(helm: Helm, files_of: FilesOf) -> None:
    files, to_zero = files_of("external-metric-and-ingress"), {"worker.autoscaling.minReplicas": "0"}

    rendered = helm.template(CHART, values_files=files, values=to_zero, kube_version="1.37.0")
    assert 0 in [each["spec"]["minReplicas"] for each in rendered if each["kind"] == "HorizontalPodAutoscaler"]
    with pytest.raises(HelmError, match=r"Kubernetes v1\.36\.9 scales nothing to zero by itself"):
        helm.template(CHART, values_files=files, values=to_zero, kube_version="1.36.9")

"""A manifest that a server would refuse, or drop a field of, is a problem whose line names the place and the reason."""

from typing import Any

import pytest

from tests.support.manifest_schemas import KUBERNETES, Schemas

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
PEAR = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "pears.fruit.example"},
    "spec": {
        "group": "fruit.example",
        "names": {"kind": "Pear", "plural": "pears"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v1beta1", "served": False, "storage": False, "schema": {"openAPIV3Schema": {"type": "object"}}},
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "grams": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                                    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                                    "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "tree": {"type": "object", "nullable": True, "properties": {"age": {}}},
                                    "seeds": {
                                        "type": "array",
                                        "items": {"type": "object", "properties": {"size": {"type": "integer"}}},
                                    },
                                    "pod": {
                                        "type": "object",
                                        "x-kubernetes-embedded-resource": True,
                                        "properties": {"spec": {"type": "object"}},
                                    },
                                    "price": {
                                        "anyOf": [{"type": "integer"}, {"type": "string"}],
                                        "x-kubernetes-int-or-string": True,
                                    },
                                },
                            }
                        },
                    }
                },
            },
        ],
    },
}


def container(**fields: Any) -> dict[str, Any]:
    """Return a Deployment whose container has these fields."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gateway"},
        "spec": {
            "selector": {"matchLabels": {"app": "gateway"}},
            "template": {"metadata": {"labels": {"app": "gateway"}}, "spec": {"containers": [{"name": "a", **fields}]}},
        },
    }


def pear(spec: object, **metadata: object) -> dict[str, Any]:
    return {
        "apiVersion": "fruit.example/v1",
        "kind": "Pear",
        "metadata": {"name": "conference", **metadata},
        "spec": spec,
    }


def problems(manifest: dict[str, Any], kubernetes: str = "1.30") -> list[str]:
    return Schemas(kubernetes, [PEAR]).problems([manifest])


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_a_manifest_that_every_version_knows_has_no_problem(kubernetes: str) -> None:
    assert Schemas(kubernetes).problems([CONFIG, container(resources={"limits": {"cpu": 1, "memory": "1Gi"}})]) == []


def test_an_unknown_field_is_named_with_its_place() -> None:
    (problem,) = problems(container(imagePulPolicy="Always"))

    assert problem.startswith("Deployment gateway: spec.template.spec.containers[0]: ")
    assert "imagePulPolicy" in problem
    assert problem.endswith("(Kubernetes 1.30)")


def test_a_value_of_another_type_is_named_with_its_place() -> None:
    (problem,) = problems(CONFIG | {"data": {"port": 8080}})

    assert problem.startswith("ConfigMap settings: data.port: 8080 is not of type 'string'")


def test_a_field_is_known_from_the_version_that_has_it() -> None:
    restarting = container(restartPolicy="Never", restartPolicyRules=[])

    assert len(problems(restarting, "1.30")) == 1
    assert problems(restarting, "1.34") == []


def test_a_kind_that_no_one_defines_is_a_problem() -> None:
    (problem,) = problems({"apiVersion": "batch/v2", "kind": "Job", "metadata": {"name": "once"}})

    assert problem == "Job once: apiVersion: batch/v2 has no such kind (Kubernetes 1.30)"


def test_an_object_without_a_name_is_a_problem() -> None:
    assert problems(CONFIG | {"metadata": {}}) == [
        "ConfigMap : metadata.name: it is missing (Kubernetes 1.30)",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"grams": 1},
        {"tags": {"colour": "green"}},
        {"extra": {"anything": [1]}},
        {"tree": None},
        {"seeds": [{"size": 1}]},
        {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}},
        {"price": 1},
        {"price": "1 EUR"},
    ],
)
def test_a_custom_resource_may_be_all_that_its_definition_allows(spec: dict[str, Any]) -> None:
    assert problems(pear(spec)) == []


@pytest.mark.parametrize(
    ("spec", "place", "reason"),
    [
        ({"gram": 1}, "spec", "'gram' was unexpected"),
        ({"grams": 0}, "spec.grams", "0 is less than or equal to the minimum of 0"),
        ({"tags": {"colour": 1}}, "spec.tags.colour", "1 is not of type 'string'"),
        ({"tree": {"ages": 1}}, "spec.tree", "'ages' was unexpected"),
        ({"seeds": [{}, {"sizes": 1}]}, "spec.seeds[1]", "'sizes' was unexpected"),
        ({"pod": {"spec": {}, "status": {}}}, "spec.pod", "'status' was unexpected"),
        ({"price": 1.5}, "spec.price", "1.5 is not valid"),
        (None, "spec", "None is not of type 'object'"),
    ],
)
def test_a_custom_resource_is_refused_what_its_definition_does_not_know(
    spec: dict[str, Any] | None, place: str, reason: str
) -> None:
    (problem,) = problems(pear(spec))

    assert problem.startswith(f"Pear conference: {place}: ")
    assert reason in problem


def test_a_custom_resources_metadata_is_that_of_all_objects() -> None:
    (problem,) = problems(pear({}, label={"a": "b"}))

    assert problem.startswith("Pear conference: metadata: ")
    assert "'label' was unexpected" in problem


def test_a_version_that_is_not_served_is_unknown() -> None:
    (problem,) = problems(pear({}) | {"apiVersion": "fruit.example/v1beta1"})

    assert "fruit.example/v1beta1 has no such kind" in problem

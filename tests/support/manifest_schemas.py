"""Manifests held against the schemas of a version of Kubernetes, and of custom resources.

It is as strict as `kubectl apply --validate=strict`: a field that the API does not know is a problem. What only a
server finds, the rules in CEL among it, is not.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.support.crds import crd_files
from tests.support.helm import Manifest

KUBERNETES = ("1.30", "1.34", "1.37")
"""The oldest version that the chart is for, one in the middle, and the newest."""
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LONGEST_REASON = 300
Schema = dict[str, Any]
Kind = tuple[str, str]
"""Of an object: its apiVersion and its kind."""


class Schemas:
    """The kinds of objects that a cluster of `kubernetes` ("1.30"), with these custom resources, knows."""

    def __init__(self, kubernetes: str, crds: Iterable[Manifest] = ()) -> None:
        self.kubernetes = kubernetes
        self._definitions = _Definitions(kubernetes)
        self._custom = {kind: schema for crd in crds for kind, schema in _schemas_of(crd)}

    def problems(self, manifests: Iterable[Manifest]) -> list[str]:
        """Return one line for each problem: the object's kind and name, the field's path, and the reason."""
        return [
            f"{manifest.get('kind', 'object')} {_name(manifest)}: {problem} (Kubernetes {self.kubernetes})"
            for manifest in manifests
            for problem in self._problems_of(manifest)
        ]

    def _problems_of(self, manifest: Manifest) -> Iterator[str]:
        kind = (str(manifest.get("apiVersion")), str(manifest.get("kind")))
        if not _name(manifest):
            yield "metadata.name: it is missing"
        if kind in self._custom:
            yield from _errors(_custom_validator(self._custom[kind]), manifest)
            meta = self._definitions.validator(_OBJECT_META)
            yield from _errors(meta, manifest.get("metadata"), "metadata")
        elif definition := self._definitions.of_kind.get(kind):
            yield from _errors(self._definitions.validator(definition), manifest)
        else:
            yield f"apiVersion: {kind[0]} has no such kind"


@functools.cache
def schemas(kubernetes: str) -> Schemas:
    """Return what such a cluster knows if it has all custom resources that the chart can use. Raise `NoGoError`."""
    return Schemas(kubernetes, [yaml.load(file.read_bytes(), yaml.CSafeLoader) for file in crd_files()])


class _Definitions:
    """The schemas of one version, read once: the package's own function reads 2 MB for each object."""

    def __init__(self, kubernetes: str) -> None:
        folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{kubernetes}.0-local-strict"
        document = json.loads((folder / "_definitions.json").read_bytes())
        self._uri = document["$id"]
        self._registry: Registry[Any] = Registry().with_resource(self._uri, DRAFT202012.create_resource(document))
        self.of_kind = {
            (f"{of['group']}/{of['version']}" if of["group"] else of["version"], of["kind"]): name
            for name, definition in document["$defs"].items()
            for of in definition.get("x-kubernetes-group-version-kind", [])
        }

    def validator(self, definition: str) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator({"$ref": f"{self._uri}#/$defs/{definition}"}, registry=self._registry)


def _name(manifest: Manifest) -> str:
    return str((manifest.get("metadata") or {}).get("name") or "")


def _errors(validator: Any, instance: object, path: str = "") -> Iterator[str]:
    for error in validator.iter_errors(instance):
        cause = best_match([error])  # of alternatives, the one that comes nearest
        at = path + cause.json_path.removeprefix("$")
        reason = cause.message if len(cause.message) <= _LONGEST_REASON else f"{cause.message[:_LONGEST_REASON]}..."
        yield f"{at.removeprefix('.') or 'the whole'}: {reason}"


def _schemas_of(crd: Manifest) -> Iterator[tuple[Kind, Schema]]:
    for version in crd["spec"]["versions"]:
        if version["served"]:
            api_version = f"{crd['spec']['group']}/{version['name']}"
            yield (api_version, crd["spec"]["names"]["kind"]), version["schema"]["openAPIV3Schema"]


def _custom_validator(schema: Schema) -> jsonschema.Draft4Validator:
    """Return the validator of a structural schema, whose words are those of JSON Schema's draft 4."""
    return jsonschema.Draft4Validator(strict({**schema, "x-kubernetes-embedded-resource": True}))


def strict(schema: Mapping[str, Any]) -> Schema:
    """Return a structural schema that refuses what a server would drop: the fields that it does not name."""
    strict_one = dict(schema)
    if "properties" in schema:
        strict_one["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
    for word in "items", "additionalProperties":
        if isinstance(schema.get(word), dict):
            strict_one[word] = strict(schema[word])
    if schema.get("x-kubernetes-embedded-resource"):  # it is an object with these three, named in the schema or not
        whole = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        strict_one["properties"] = strict_one.get("properties", {}) | whole
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and not is_open:
        strict_one["additionalProperties"] = False
    if schema.get("nullable"):
        strict_one["type"] = [schema["type"], "null"]
    return strict_one

"""The values that the chart is rendered with: its defaults, its examples, and what none of these turn on."""

from pathlib import Path
from typing import Any

from tests.support.paths import CHECKOUT

CHART = CHECKOUT / "deploy" / "helm" / "bindery"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
Values = dict[str, Any]

NEEDED: Values = {"images": {"prefix": "registry.example.org/bindery/"}, "secrets": {"existing": "bindery-secrets"}}
"""What has no default; an example may say it itself."""
_PUSHED_TO = {"imagePrefix": "registry.example.org/binder/r2d-"}
_HOSTS = {"publicUrl": "https://bindery.example.org", "serversUrl": "https://bindery-servers.example.org"}
_EXTRA = {
    "extraEnv": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "d", "key": "e"}}}],
    "extraVolumes": [{"name": "extra", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    "initContainers": [{"name": "first", "image": "busybox"}],
    "imagePullSecrets": ["pull"],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podLabels": {"label": "a"},
    "podAnnotations": {"annotation": "a"},
    "serviceAccountAnnotations": {"annotation": "a"},
}

CASES: dict[str, Path | Values] = {
    "defaults": {"registry": _PUSHED_TO},
    **{file.stem: file for file in EXAMPLES},
    "keda-gateway-api-and-prometheus-operator": _HOSTS
    | {
        "registry": _PUSHED_TO,
        "worker": {
            "autoscaling": {
                "by": "keda",
                "minReplicas": 0,
                "keda": {"prometheusUrl": "http://prometheus:9090", "authenticationRef": {"name": "prometheus"}},
            }
        },
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]},
        "monitoring": {"podMonitor": {"enabled": True}},
    },
    "external-metric-and-ingress": _HOSTS
    | {
        "registry": _PUSHED_TO,
        "worker": {"autoscaling": {"by": "hpa", "hpa": {"selector": {"installation": "a"}}}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
    },
    "neighbours-elsewhere": {
        "registry": _PUSHED_TO | {"username": "me", "password": "secret"},
        "redis": {"bundled": False, "url": "rediss://{user}:{password}@redis.example.org:6380/0"},
        "hub": {"bundled": False, "apiUrl": "http://hub.jupyter:8081/hub/api/"},
        "serversUrl": "https://servers.example.org",
        "engine": {"kind": "address", "address": "tcp://engine.example.org:2376", "tlsSecret": "engine"},
        "priorityClasses": {"create": False},
    },
    "one-namespace-and-one-node": {
        "registry": {"bundled": True},
        "engine": {"kind": "socket"},
        "builds": {"namespace": {"name": "bindery"}},
        "servers": {"namespace": {"name": "bindery"}},
    },
    "without-network-policies": {"registry": _PUSHED_TO, "networkPolicy": {"enabled": False}},
    "extras": {
        "registry": {"bundled": True},
        "everyPart": _EXTRA,
        "engine": _EXTRA,
        "networkPolicy": {"alsoPrivate": ["203.0.113.0/24"]},
    },
}

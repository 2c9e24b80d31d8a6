"""The manifests of a build's Job, and of the Secret that the Job owns.

Source: the pods of BinderHub (KubernetesBuildExecutor), as Jobs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.builder.executors.base import Attempt
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import (
    BUILD_ID,
    BUILD_VOLUME,
    CONTAINER,
    DOCKER_CONFIG_PATH,
    EPOCH,
    IMAGE_KEY,
    INSTALLATION,
    RUN,
    JobState,
    Json,
)

COMPONENT = "binderhub-build"
"""The label `component` of BinderHub's build pods: policies and dashboards select by it."""
REPO = "binder-repo"
"""An annotation of BinderHub's build pods."""
BUILD_FOLDER = "/etc/bindery-build"
CONFIG_KEY = "repo2docker_config.py"
CONFIG_FILE = f"{BUILD_FOLDER}/{CONFIG_KEY}"
DOCKER_CONFIG_KEY = "config.json"
DOCKER_SOCKET = "/var/run/docker.sock"
TLS_FOLDER = "/etc/docker-tls"
STICKY_WEIGHT = 100


@dataclass(frozen=True, kw_only=True)
class Command:
    """The program that runs in the Job.

    The kubelet expands `$(NAME)` in `arguments` and in the values of `environment`: an author's texts are escaped by
    `literal`.
    """

    image: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    """Environment variables that appear in no manifest of a Job."""
    config: str
    docker_config: str = field(default="", repr=False)
    """A `config.json` of Docker's client, which appears in no manifest of a Job; empty for a Job without one."""


def literal(text: str) -> str:
    """Escape an argument or environment value, so that the kubelet hands the text over unchanged.

    The kubelet replaces `$(NAME)` by the variable's value, also by one from a Secret, and `$$` by `$`.
    Source: Kubernetes' `Container.args` and `EnvVar.value`.
    """
    return text.replace("$", "$$")


def installation_label(installation_id: str) -> str:
    """Return an installation's id as a valid value of a label: a hash, as an id may have any characters."""
    return hashlib.sha256(installation_id.encode()).hexdigest()[:24]


def job_name(execution: str) -> str:
    """Return the name of an execution's Job."""
    return f"bindery-{execution}"


def job_manifest(
    attempt: Attempt,
    command: Command,
    settings: KubernetesSettings,
    *,
    secret: str,
    node: str | None = None,
    owners: Sequence[Json] = (),
) -> Json:
    """Return the Job of one run of an attempt, which goes with the last of its `owners` (`ownerReferences`).

    `secret` is the name of its Secret, `node` a node to prefer.
    """
    name = job_name(attempt.name)
    labels = {"app": "bindery", "component": COMPONENT, "name": name} | settings.kubernetes_labels
    labels |= {  # last, so that no setting overrides the labels that we select by
        INSTALLATION: installation_label(settings.installation_id),
        BUILD_ID: attempt.build_id,
        IMAGE_KEY: attempt.image_key,
        RUN: str(attempt.run),
    }

    annotations = {REPO: attempt.repo_url} | settings.kubernetes_annotations
    annotations |= {
        "bindery/repo-url": attempt.repo_url,
        "bindery/ref": attempt.ref,
        "bindery/image": attempt.image,
    }

    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": annotations | {EPOCH: str(attempt.epoch)},
            "ownerReferences": list(owners),
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.deadline_seconds,
            "ttlSecondsAfterFinished": settings.kubernetes_ttl_seconds,
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod(command, settings, secret=secret, node=node),
            },
        },
    }


def secret_manifest(job: JobState, command: Command, settings: KubernetesSettings) -> Json:
    """Return the Secret of a Job. The cluster removes it together with the Job, however that is removed."""
    contents = {CONFIG_KEY: command.config, **command.secrets}
    if job.has_docker_config:  # decided when the Job was created: the credentials may have changed since
        contents[DOCKER_CONFIG_KEY] = command.docker_config or '{"auths": {}}'

    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": job.secret,
            "labels": {INSTALLATION: installation_label(settings.installation_id), BUILD_ID: job.build_id},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": job.uid}],
        },
        "stringData": contents,
    }


def _pod(command: Command, settings: KubernetesSettings, *, secret: str, node: str | None) -> Json:
    volumes: list[Json] = [{"name": BUILD_VOLUME, "secret": {"secretName": secret}}]
    mounts: list[Json] = [{"name": BUILD_VOLUME, "mountPath": CONFIG_FILE, "subPath": CONFIG_KEY, "readOnly": True}]
    environment = dict(command.environment)
    _add_engine(settings, volumes=volumes, mounts=mounts, environment=environment)
    _add_docker_config(command, settings, volumes=volumes, mounts=mounts)

    affinity = settings.kubernetes_affinity
    if affinity is None:
        affinity = _affinity(settings, node)

    pod: Json = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings.kubernetes_grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [_container(command, settings, secret=secret, environment=environment, mounts=mounts)],
        "volumes": volumes,
        "nodeSelector": settings.kubernetes_node_selector,
        "tolerations": settings.kubernetes_tolerations,
        "affinity": affinity,
        "securityContext": settings.kubernetes_pod_security_context,
        "imagePullSecrets": [{"name": name} for name in settings.kubernetes_image_pull_secrets],
    }
    if settings.kubernetes_service_account:
        pod["serviceAccountName"] = settings.kubernetes_service_account
    if settings.kubernetes_priority_class:
        pod["priorityClassName"] = settings.kubernetes_priority_class
    if settings.kubernetes_host_network:
        pod["hostNetwork"] = True
    return pod


def _container(
    command: Command,
    settings: KubernetesSettings,
    *,
    secret: str,
    environment: Mapping[str, str],
    mounts: Sequence[Json],
) -> Json:
    variables: list[Json] = [{"name": name, "value": value} for name, value in sorted(environment.items())]
    variables += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in sorted(command.secrets)
    ]

    container: Json = {
        "name": CONTAINER,
        "image": command.image,
        "imagePullPolicy": settings.kubernetes_image_pull_policy,
        "args": list(command.arguments),
        "env": variables,
        "resources": _resources(settings),
        "volumeMounts": mounts,
        "securityContext": settings.kubernetes_security_context,
    }
    if settings.kubernetes_command:
        container["command"] = settings.kubernetes_command
    return container


def _resources(settings: KubernetesSettings) -> Json:
    """Return the resources that are set for Kubernetes, with the limits of every executor as defaults."""
    limits: dict[str, str] = {}
    if settings.build_memory_limit:
        limits["memory"] = settings.build_memory_limit
    if settings.build_cpu_limit:
        limits["cpu"] = f"{settings.build_cpu_limit:g}"

    resources: Json = dict(settings.kubernetes_resources)
    if limits:
        resources["limits"] = limits | resources.get("limits", {})
    return resources


def _add_engine(
    settings: KubernetesSettings, *, volumes: list[Json], mounts: list[Json], environment: dict[str, str]
) -> None:
    """Add the way to the container engine: a socket of the node, an address, or none."""
    address = urlsplit(settings.kubernetes_docker_host)
    if address.scheme in {"", "unix"} and address.path:
        volumes.append({"name": "docker-socket", "hostPath": {"path": address.path, "type": "Socket"}})
        mounts.append({"name": "docker-socket", "mountPath": DOCKER_SOCKET})
    elif address.scheme:
        environment["DOCKER_HOST"] = settings.kubernetes_docker_host
        if settings.kubernetes_docker_tls_secret:
            environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": TLS_FOLDER}
            volumes.append({"name": "docker-tls", "secret": {"secretName": settings.kubernetes_docker_tls_secret}})
            mounts.append({"name": "docker-tls", "mountPath": TLS_FOLDER, "readOnly": True})


def _add_docker_config(
    command: Command, settings: KubernetesSettings, *, volumes: list[Json], mounts: list[Json]
) -> None:
    """Add the credentials to push with: of the operator's Secret, or the builder's own in the Job's Secret."""
    path = f"{settings.kubernetes_home.rstrip('/')}/{DOCKER_CONFIG_PATH}"
    mount = {"mountPath": path, "subPath": DOCKER_CONFIG_KEY, "readOnly": True}
    if settings.kubernetes_push_secret:
        volumes.append({"name": "push", "secret": {"secretName": settings.kubernetes_push_secret}})
        mounts.append({"name": "push", **mount})
    elif command.docker_config:
        mounts.append({"name": BUILD_VOLUME, **mount})


def _affinity(settings: KubernetesSettings, node: str | None) -> Json:
    """Return an affinity to a node if one is given, else away from other builds, as BinderHub's default."""
    if node:
        terms = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
        preferred = {"weight": STICKY_WEIGHT, "preference": {"matchExpressions": terms}}
        return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}

    other_builds = {
        "labelSelector": {"matchLabels": {INSTALLATION: installation_label(settings.installation_id)}},
        "topologyKey": "kubernetes.io/hostname",
    }
    preferred = {"weight": STICKY_WEIGHT, "podAffinityTerm": other_builds}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}


def preferred_node(repo_url: str, nodes: Sequence[str]) -> str | None:
    """Return the node that a repository's builds prefer: a rendezvous hash, so that few move when nodes come or go.

    Source: BinderHub's `rendezvous_rank`: BLAKE2b of 64 bits over `<repo url>-<node>`, big-endian, the greatest wins.
    """

    def score(node: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{repo_url}-{node}".encode(), digest_size=8).digest(), "big")

    return max(nodes, key=score, default=None)

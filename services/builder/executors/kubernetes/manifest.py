"""The Job of a build, and the Secret that it owns. Source: BinderHub's pods (KubernetesBuildExecutor), made Jobs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.builder.executors.base import Attempt
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import (
    BUILD_ID,
    CONTAINER,
    EPOCH,
    IMAGE_KEY,
    INSTALLATION,
    RUN,
    JobState,
    Json,
)

COMPONENT, REPO = "binderhub-build", "binder-repo"
"""The label `component`, and an annotation, of BinderHub's build pods: policies and dashboards select by them."""
BUILD_FOLDER = "/etc/bindery-build"
CONFIG_KEY = "repo2docker_config.py"
CONFIG_FILE = f"{BUILD_FOLDER}/{CONFIG_KEY}"
LOGINS_KEY = "config.json"
DOCKER_SOCKET = "/var/run/docker.sock"
TLS_FOLDER = "/etc/docker-tls"
STICKY_WEIGHT = 100


@dataclass(frozen=True)
class Command:
    """What runs in the Job. `secrets` are environment variables that stand in no manifest, nor does `logins`.

    In `arguments` and in the values of `environment` the kubelet expands `$(NAME)`: what an author chose is `literal`.
    `logins` is a `config.json` of Docker's client; with an empty one the Job has none of its own.
    """

    image: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    config: str
    logins: str = field(default="", repr=False)


def literal(text: str) -> str:
    """A text as an argument or environment value that the kubelet hands over as it is.

    It puts variables' values, those from Secrets included, in the place of `$(NAME)`, and `$` in that of `$$`. Source:
    Kubernetes' `Container.args` and `EnvVar.value`.
    """
    return text.replace("$", "$$")


def installation_label(installation_id: str) -> str:
    """An installation's id as a label's value: any id may be one."""
    return hashlib.sha256(installation_id.encode()).hexdigest()[:24]


def job_name(execution: str) -> str:
    """The name of an execution's Job."""
    return f"bindery-{execution}"


def job_of(
    attempt: Attempt, command: Command, settings: KubernetesSettings, *, secret: str, node: str | None = None
) -> Json:
    """The Job of one run of an attempt; `secret` is what its Secret will be called, `node` a node to prefer."""
    name = job_name(attempt.name)
    theirs = {"app": "bindery", "component": COMPONENT, "name": name} | settings.kubernetes_labels
    labels = theirs | {  # ours last: we select by these, and by no other
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
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.deadline_seconds,
            "ttlSecondsAfterFinished": settings.kubernetes_ttl_seconds,
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod(command, settings, secret, node),
            },
        },
    }


def secret_of(job: JobState, command: Command, settings: KubernetesSettings) -> Json:
    """The Secret of a Job: the cluster removes it with its owner, whoever removes that."""
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
        "stringData": {CONFIG_KEY: command.config, **command.secrets, **_logins(job, command)},
    }


def _logins(job: JobState, command: Command) -> Json:
    """The logins, where the Job expects them: what there is now may not be what there was when it was made."""
    return {LOGINS_KEY: command.logins or '{"auths": {}}'} if job.has_logins else {}


def _pod(command: Command, settings: KubernetesSettings, secret: str, node: str | None) -> Json:
    volumes: list[Json] = [{"name": "build", "secret": {"secretName": secret}}]
    mounts: list[Json] = [{"name": "build", "mountPath": CONFIG_FILE, "subPath": CONFIG_KEY, "readOnly": True}]
    environment = dict(command.environment)
    _add_engine(settings, volumes, mounts, environment)
    logins = {
        "mountPath": f"{settings.kubernetes_home.rstrip('/')}/.docker/config.json", "subPath": LOGINS_KEY,
        "readOnly": True,
    }  # fmt: skip
    if settings.kubernetes_push_secret:
        volumes.append({"name": "push", "secret": {"secretName": settings.kubernetes_push_secret}})
        mounts.append({"name": "push", **logins})
    elif command.logins:
        mounts.append({"name": "build", **logins})
    by_reference = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in sorted(command.secrets)
    ]
    container: Json = {
        "name": CONTAINER,
        "image": command.image,
        "imagePullPolicy": settings.kubernetes_image_pull_policy,
        "args": list(command.arguments),
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())] + by_reference,
        "resources": _resources(settings),
        "volumeMounts": mounts,
        "securityContext": settings.kubernetes_security_context,
    }
    if settings.kubernetes_command:
        container["command"] = settings.kubernetes_command
    pod: Json = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings.kubernetes_grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": settings.kubernetes_node_selector,
        "tolerations": settings.kubernetes_tolerations,
        "affinity": settings.kubernetes_affinity
        if settings.kubernetes_affinity is not None
        else _affinity(settings, node),
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


def _resources(settings: KubernetesSettings) -> Json:
    """As set for Kubernetes, with the limits that are set for every executor where those say nothing."""
    limits = {"memory": settings.build_memory_limit} if settings.build_memory_limit else {}
    limits |= {"cpu": f"{settings.build_cpu_limit:g}"} if settings.build_cpu_limit else {}
    given = settings.kubernetes_resources
    return given | ({"limits": limits | given.get("limits", {})} if limits else {})


def _add_engine(
    settings: KubernetesSettings, volumes: list[Json], mounts: list[Json], environment: dict[str, str]
) -> None:
    """The way to the container engine: a socket of the node, an address, or none."""
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


def _affinity(settings: KubernetesSettings, node: str | None) -> Json:
    """One node if it has room, for sticky builds; else away from other builds, as BinderHub's default."""
    if node:
        terms = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
        preferred = {"weight": STICKY_WEIGHT, "preference": {"matchExpressions": terms}}
        return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}
    apart = {
        "labelSelector": {"matchLabels": {INSTALLATION: installation_label(settings.installation_id)}},
        "topologyKey": "kubernetes.io/hostname",
    }
    preferred = {"weight": STICKY_WEIGHT, "podAffinityTerm": apart}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}


def preferred_node(repo_url: str, nodes: Sequence[str]) -> str | None:
    """The node that a repository's builds prefer: a rendezvous hash, so that few move when nodes come or go.

    Source: BinderHub's `rendezvous_rank`: BLAKE2b of 64 bits over `<repo url>-<node>`, big-endian, the greatest wins.
    """

    def score(node: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{repo_url}-{node}".encode(), digest_size=8).digest(), "big")

    return max(nodes, key=score, default=None)

"""The settings of the `kubernetes` executor. A description has BinderHub's name for its setting in brackets."""

from typing import Any, Self

from pydantic import Field, model_validator

from services.builder.settings import BuilderSettings

TOLERATIONS = [
    {"key": key, "operator": "Equal", "value": "user", "effect": "NoSchedule"}
    for key in ("hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated")
]
"""BinderHub's default: builds may run on the nodes of users' servers."""


class KubernetesSettings(BuilderSettings):
    """The builder's settings, and those of its Jobs. Names and quantities are Kubernetes' own."""

    kubernetes_config: str = Field(
        "", description="A kubeconfig file; empty: KUBECONFIG, else the pod's own service account, else ~/.kube/config."
    )
    kubernetes_context: str = Field("", description="The kubeconfig's context; empty: its current one.")
    kubernetes_namespace: str = Field(
        "", description="Where Jobs run [build_namespace]; empty: the namespace of this pod or of the context."
    )
    kubernetes_owner: str = Field(
        "",
        description="A ConfigMap in the Jobs' namespace that [owns](builders.md#builds-on-kubernetes) the Jobs: who "
        "deletes it, as `helm uninstall` does, deletes them with all that is theirs. Empty: nothing owns them.",
    )
    kubernetes_owner_seconds: float = Field(
        60.0, ge=0, description="How long a worker remembers the uid of that ConfigMap; 0: it is read for each Job."
    )
    kubernetes_connect_timeout_seconds: float = Field(
        3.0, gt=0, description="How long connecting to the API server may take."
    )
    kubernetes_read_timeout_seconds: float = Field(
        10.0, gt=0, description="How long one call of the API server may take."
    )
    kubernetes_connections: int = Field(
        16, description="Number of calls that one process makes of the API server at once."
    )
    kubernetes_probe_seconds: float = Field(
        5.0, gt=0, description="How long the API server may be silent before a request checks whether it answers."
    )
    kubernetes_relist_seconds: float = Field(
        300.0, gt=0, description="Time between two complete lists of the watched objects."
    )
    kubernetes_watch_seconds: float = Field(
        60.0,
        gt=0,
        description="How long one request of a watch lasts. The next one continues at the same point, and shows that "
        "the API server still answers.",
    )
    kubernetes_stale_seconds: float = Field(
        120.0,
        gt=0,
        description="A watch of which the API server has sent nothing for this long makes the worker unhealthy, and "
        "its builds wait. More than `BINDERY_KUBERNETES_WATCH_SECONDS` and one call.",
    )
    kubernetes_log_quiet_seconds: float = Field(
        300.0, gt=0, description="A log stream that is silent for this long is opened again."
    )

    kubernetes_image_pull_secrets: list[str] = Field([], description="Secrets to pull the builder image with.")
    kubernetes_image_pull_policy: str = Field(
        "IfNotPresent", description="When the builder image is pulled: IfNotPresent, Always or Never."
    )
    kubernetes_command: list[str] = Field(
        [], description="Command of the Job, before repo2docker's arguments; empty: the image's own entry point."
    )
    kubernetes_docker_host: str = Field(
        "unix:///var/run/docker.sock",
        description="The engine [docker_host]: a socket on the node (unix://), tcp://host:port, or empty for none.",
    )
    kubernetes_docker_tls_secret: str = Field(
        "", description="Secret with ca.pem, cert.pem and key.pem for an engine at tcp://."
    )
    kubernetes_push_secret: str = Field(
        "",
        description="Secret whose config.json is Docker's, to push with [push_secret]; empty: builds get the builder's "
        "own login for their image's registry, in a Secret of their own.",
    )
    kubernetes_engine_credentials: bool = Field(
        False,
        description="Whether that login is also in repo2docker's configuration file, in that Secret: for builder "
        "images whose engine reads no config.json.",
    )
    kubernetes_home: str = Field(
        "/root", description="Home of the user that builds run as: .docker/config.json goes there."
    )

    kubernetes_resources: dict[str, dict[str, str]] = Field(
        {}, description="Requests and limits of the pod; they do not include RUN steps, which the engine runs."
    )
    kubernetes_node_selector: dict[str, str] = Field({}, description="Labels of the nodes that builds run on.")
    kubernetes_tolerations: list[dict[str, Any]] = Field(TOLERATIONS, description="Taints that builds tolerate.")
    kubernetes_affinity: dict[str, Any] | None = Field(
        None, description="Affinity of the pod; none: builds are spread over the nodes if possible."
    )
    kubernetes_sticky_builds: bool = Field(
        False,
        description="Whether builds of one repository prefer one node, whose engine has their layers [sticky_builds].",
    )
    kubernetes_engine_selector: str = Field(
        "component=image-builder,app=binder", description="Labels of the engine's pods, for sticky builds."
    )
    kubernetes_priority_class: str = Field("", description="Priority class of the pod.")
    kubernetes_service_account: str = Field("", description="Service account of the pod; its token is never mounted.")
    kubernetes_pod_security_context: dict[str, Any] = Field({}, description="Security context of the pod.")
    kubernetes_security_context: dict[str, Any] = Field(
        {"allowPrivilegeEscalation": False, "runAsUser": 0, "runAsGroup": 0},
        description="Security context of the builder container. Its user has to be one who may open the engine's "
        "socket on every node: the number of the socket's group may differ.",
    )
    kubernetes_labels: dict[str, str] = Field(
        {},
        description="Labels of Jobs and pods in addition to our own `bindery/…`, mainly for network policies. "
        "Unless they are set here, `component` is `binderhub-build`, `app` is `bindery`, and `name` "
        "the Job's name.",
    )
    kubernetes_annotations: dict[str, str] = Field(
        {}, description="More annotations for Jobs and pods, which have BinderHub's `binder-repo`."
    )
    kubernetes_host_network: bool = Field(False, description="Whether the pod uses its node's network.")

    kubernetes_deadline_seconds: float = Field(
        0.0,
        ge=0,
        description="The Job's own deadline, which holds even if no worker is alive; 0: BINDERY_BUILD_TIMEOUT_SECONDS.",
    )
    kubernetes_ttl_seconds: int = Field(
        7200, ge=3600, description="How long an ended Job stays if nobody removes it: an hour or more."
    )
    kubernetes_grace_seconds: int = Field(2, ge=0, description="How long a stopped pod may take to end by itself.")
    kubernetes_settle_seconds: float = Field(
        3.0, ge=0, description="How long an obstacle must last before the build's log mentions it."
    )
    kubernetes_unschedulable_seconds: float = Field(
        600.0, ge=0, description="How long a build waits for a node with room [as long as an autoscaler takes]."
    )
    kubernetes_image_pull_seconds: float = Field(
        300.0, ge=0, description="How long a build waits for a builder image that can't be pulled."
    )
    kubernetes_quota_seconds: float = Field(
        600.0, ge=0, description="How long a build waits for room in its namespace's quota."
    )
    kubernetes_start_seconds: float = Field(
        300.0,
        ge=0,
        description="How long anything else may keep a pod from starting: a volume, a Secret, its node, "
        "or a missing `BINDERY_KUBERNETES_OWNER`.",
    )
    kubernetes_lost_seconds: float = Field(
        60.0,
        ge=0,
        description="How long a deleted pod may stay before its node counts as dead, and the build as vanished.",
    )

    @model_validator(mode="after")
    def _check_staleness(self) -> Self:
        self.require_longer("kubernetes_stale_seconds", than="kubernetes_watch_seconds")
        return self

    @property
    def deadline_seconds(self) -> int:
        """The Job's `activeDeadlineSeconds`."""
        return max(1, round(self.kubernetes_deadline_seconds or self.build_timeout_seconds))

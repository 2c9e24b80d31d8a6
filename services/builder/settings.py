"""The builder's settings: where and how images are built, how many at once, and the deadlines."""

from pydantic import Field, SecretStr

from services.builder.registry.settings import RegistrySettings


class BuilderSettings(RegistrySettings):
    """Settings of the builder's API and of its workers."""

    executor: str = Field("process", description="What runs the builds; an entry point of the group bindery.executors.")

    build_slots: int = Field(
        4, description="Builds that one worker supervises at once; those that it takes over from another come on top."
    )
    build_capacity: int = Field(32, description="Builds that run at once in the whole installation.")
    build_repo_cap: int = Field(4, description="Builds of one repository that run at once.")
    build_queue_max: int = Field(1000, description="Builds that may wait; one more is refused.")
    build_queue_max_seconds: float = Field(3600.0, description="How long a build may wait for a slot before it fails.")
    operator_token: SecretStr = Field(
        SecretStr(""),
        description="Token (Bindery-Operator-Token) that may cancel builds which launches wait for; empty: nobody may.",
    )
    keepalive_seconds: float = Field(25.0, description="How often a silent stream sends a sign of life.")
    build_timeout_seconds: float = Field(
        4 * 3600.0,
        gt=0,
        description="Hard maximum of one build [BinderHub's build_max_age]. A launch has "
        "`BINDERY_LAUNCH_TIMEOUT_SECONDS` for it and all else.",
    )
    build_stall_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a running build may be silent; while it waits for a node or an image it does not run. "
        "0: for ever, as at BinderHub; R and conda have steps that are silent for half an hour.",
    )
    build_runs_max: int = Field(
        2, description="Executions of one attempt: one that vanished, or could not push, is followed by another."
    )
    outage_patience_seconds: float = Field(
        300.0, description="How long a build waits for a registry, API server or engine that does not answer."
    )
    build_cancel_grace_seconds: float = Field(
        10.0, description="How long a build goes on after the last launch that waited for it left."
    )
    build_failure_memory_seconds: float = Field(
        600.0, description="How long a failure that is the author's move is answered at once."
    )
    build_stop_seconds: float = Field(30.0, description="How long stopping an execution may take.")
    finished_stream_seconds: float = Field(
        600.0, description="How long a finished build's stream outlives the storing of its log."
    )
    attempt_ttl_seconds: float = Field(
        30 * 86400.0, description="How long the number of an image's attempts is remembered."
    )
    relist_seconds: float = Field(30.0, description="How often executions are compared with the builds' records.")
    job_poll_seconds: float = Field(0.05, description="How often a worker looks for jobs (arq polls).")

    builder_image: str = Field(
        "bindery-builder",
        description="Image that runs repo2docker, made from deploy/images/builder (docker, kubernetes).",
    )
    build_push: bool = Field(
        True,
        description="Whether images are pushed; if not, they stay in the engine, "
        "and whether one exists is asked at `BINDERY_DOCKER_HOST`.",
    )
    build_user_name: str = Field("jovyan", description="Name of the user in the images (repo2docker).")
    build_user_id: int = Field(1000, gt=0, description="Number of the user in the images (repo2docker).")
    build_memory_limit: str = Field(
        "", description="Memory of repo2docker's own container, as 512Mi or 2G; the engine bounds RUN steps, not this."
    )
    build_cpu_limit: float = Field(0.0, description="CPUs of repo2docker's own container; 0: no limit.")
    build_line_max_bytes: int = Field(16384, description="Longest line of a build's log; what is longer is cut.")
    repo2docker_appendix: str = Field("", description="Dockerfile text that is added to every image.")
    repo2docker_extra_args: str = Field("", description="Further arguments of repo2docker, as a shell splits them.")
    repo2docker_extra_config: str = Field("", description="Python that is added to repo2docker's configuration file.")
    repo2docker_extra_envs: dict[str, str] = Field({}, description="Environment of repo2docker, as JSON; no secrets.")
    git_credentials: SecretStr = Field(
        SecretStr(""),
        description="JSON: host of a repository to what git's credential helper says for it, "
        "username=...\\npassword=... (repo2docker).",
    )

    images_max_bytes: int = Field(20 * 2**30, description="Size of all images of the process executor together.")
    images_grace_seconds: float = Field(
        600.0, description="How long an image that was never launched is safe from removal."
    )
    fetch_timeout_seconds: float = Field(
        300.0, description="How long fetching a repository may take (process executor)."
    )
    fetch_max_bytes: int = Field(2 * 2**30, description="How large a repository may be (process executor).")
    install_timeout_seconds: float = Field(
        1800.0, description="How long installing packages may take (process executor)."
    )
    postbuild_timeout_seconds: float = Field(900.0, description="How long postBuild may run (process executor).")
    base_packages: str = Field(
        "jupyterlab notebook ipykernel pip", description="Installed into every environment (process executor)."
    )
    default_python: str = Field(
        "", description="Version or path of the Python for repositories that ask for none; empty: ours."
    )
    python_downloads: bool = Field(True, description="Whether an interpreter that is not there may be downloaded.")

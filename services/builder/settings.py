"""The builder's settings: executor and images, limits on builds at once, and deadlines."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from services.builder.registry.settings import RegistrySettings
from services.common.git.forge_settings import ForgeSettings
from services.common.net.archive_addresses import ArchiveAddresses


class BuilderSettings(RegistrySettings, ForgeSettings, ArchiveAddresses):
    """Settings of the builder's API and of its workers."""

    executor: str = Field("process", description="What runs the builds; an entry point of the group bindery.executors.")

    build_slots: int = Field(
        4,
        description="Number of builds that one worker supervises at once, not counting those that it takes over from "
        "another.",
    )
    build_capacity: int = Field(32, description="Number of builds that run at once in the whole installation.")
    build_repo_cap: int = Field(4, description="Number of builds of one repository that run at once.")
    build_queue_max: int = Field(1000, description="Number of builds that may wait; the next one is refused.")
    build_queue_max_seconds: float = Field(
        3600.0, ge=0, description="How long a build may wait for a slot before it fails."
    )
    operator_token: SecretStr = Field(
        SecretStr(""),
        description="Token (Bindery-Operator-Token) that may cancel builds which launches wait for; empty: nobody may. "
        "The resolver's has to be the same.",
    )
    keepalive_seconds: float = Field(25.0, gt=0, description="Time between two signs of life of a silent stream.")
    build_timeout_seconds: float = Field(
        4 * 3600.0,
        gt=0,
        description="Hard maximum of one build [BinderHub's build_max_age]. `BINDERY_LAUNCH_TIMEOUT_SECONDS` "
        "bounds the whole launch.",
    )
    build_stall_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a running build may be silent, not counting the time when it waits for a node or an "
        "image. 0: no limit, as at BinderHub; R and conda have steps that are silent for half an "
        "hour.",
    )
    build_runs_max: int = Field(
        2,
        description="Number of executions of one attempt: an execution that vanished, or could not push, is followed "
        "by another.",
    )
    push_refusal_shown_seconds: float = Field(
        3600.0,
        ge=0,
        description="How long a worker's health shows a refused push, unless another image is pushed before.",
    )
    outage_patience_seconds: float = Field(
        300.0, ge=0, description="How long a build waits for a registry, API server or engine that does not answer."
    )
    build_cancel_grace_seconds: float = Field(
        10.0, ge=0, description="How long a build goes on after the last launch stops waiting for it."
    )
    build_failure_memory_seconds: float = Field(
        600.0, ge=0, description="How long a failure that only the author can solve is remembered."
    )
    build_log_end_seconds: float = Field(
        60.0,
        ge=0,
        description="How long the end of a failed build's log is waited for, if it can't be read (docker, kubernetes). "
        "After that the build's error says that the log is missing.",
    )
    build_stop_seconds: float = Field(30.0, gt=0, description="How long stopping an execution may take.")
    finished_stream_seconds: float = Field(
        600.0, ge=0, description="How long a finished build's stream outlives the storing of its log."
    )
    attempt_ttl_seconds: float = Field(
        30 * 86400.0, gt=0, description="How long the number of an image's attempts is remembered."
    )
    relist_seconds: float = Field(30.0, gt=0, description="How often executions are compared with the builds' records.")
    job_poll_seconds: float = Field(0.05, gt=0, description="How often a worker looks for jobs (arq polls).")

    builder_image: str = Field(
        "localhost/bindery/repo2docker:local",
        description="Image that runs repo2docker: [how it is made](images.md) (docker, kubernetes).",
    )
    build_push: bool = Field(
        True,
        description="Whether images are pushed. If not, they stay in the engine at `BINDERY_DOCKER_HOST`, which "
        "is then asked whether an image exists.",
    )
    build_user_name: str = Field("jovyan", description="Name of the user in the images (repo2docker).")
    build_user_id: int = Field(1000, gt=0, description="Number of the user in the images (repo2docker).")
    build_memory_limit: str = Field(
        "",
        description="Memory of repo2docker's own container, as 512Mi or 2G; RUN steps are bounded by the engine "
        "instead.",
    )
    build_cpu_limit: float = Field(0.0, description="CPUs of repo2docker's own container; 0: no limit.")
    build_line_max_bytes: int = Field(16384, description="Longest line of a build's log; a longer one is cut.")
    repo2docker_appendix: str = Field("", description="Dockerfile text that is added to every image.")
    repo2docker_extra_args: str = Field("", description="Further arguments of repo2docker, as a shell splits them.")
    repo2docker_extra_config: str = Field("", description="Python that is added to repo2docker's configuration file.")
    repo2docker_extra_envs: dict[str, str] = Field({}, description="Environment of repo2docker, as JSON; no secrets.")

    images_max_bytes: int = Field(20 * 2**30, description="Size of all images of the process executor together.")
    image_overlays: bool = Field(
        True,
        description="Whether servers of the process executor share an image's files by overlay mounts, where the system"
        " allows them. Otherwise each server gets copies. The hub reads the same variable.",
    )
    images_grace_seconds: float = Field(
        600.0, ge=0, description="How long an image that was never launched is safe from removal."
    )
    fetch_timeout_seconds: float = Field(
        300.0, gt=0, description="How long fetching a repository may take (process executor)."
    )
    fetch_max_bytes: int = Field(2 * 2**30, description="How large a repository may be (process executor).")
    fetch_max_files: int = Field(
        50_000,
        gt=0,
        description="How many files a dataset of an archive may have, folders included (process executor).",
    )
    fetch_unpack_max_ratio: float = Field(
        100.0,
        gt=1,
        description="How many times as large as it was packed a dataset may become, if it is then larger than 64 MiB "
        "(process executor).",
    )
    fetch_history_max_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="How large the history of a repository may be, with all branches, tags and submodules. Of a larger "
        "one only the commit is fetched, with its tags, and the log says so. 0: never more (process executor).",
    )
    fetch_history_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="How long fetching the history of one repository may take, of the time for fetching it all. One "
        "that takes longer is left out (process executor).",
    )
    fetch_lfs_max_bytes: int = Field(
        2**30,
        ge=0,
        description="How much a repository may keep in Git LFS; what goes beyond stays a pointer, and the log says so. "
        "0: nothing is fetched from there (process executor).",
    )
    install_timeout_seconds: float = Field(
        1800.0, gt=0, description="How long installing packages may take (process executor)."
    )
    build_progress_seconds: float = Field(
        1.0,
        ge=0,
        description="How often the log of a build shows a line that is overwritten, as a progress bar is (process"
        " executor).",
    )
    postbuild_timeout_seconds: float = Field(900.0, gt=0, description="How long postBuild may run (process executor).")
    base_packages: str = Field(
        "jupyterlab notebook ipykernel pip",
        description="Packages that are installed into every environment (process executor).",
    )
    base_max_age_seconds: float = Field(
        7 * 86400.0,
        ge=0,
        description="How long those packages are taken from what a build with the same Python installed"
        " (process executor). Later builds get new releases of them.",
    )
    default_python: str = Field(
        "",
        description="Version or path of the Python for repositories that ask for none; empty: the Python that Bindery "
        "runs on.",
    )
    python_downloads: bool = Field(True, description="Whether an interpreter that is not installed may be downloaded.")

    conda_channel_alias: str = Field(
        "",
        description="Address below which the channels lie that an environment.yml names, a mirror for instance; empty: "
        "conda's own. Its login belongs into the file that RATTLER_AUTH_FILE names (process executor).",
    )
    conda_default_channels: str = Field(
        "conda-forge",
        description="Channels that are added to those of an environment.yml, unless it says nodefaults: names or "
        "addresses (process executor).",
    )
    conda_defaults: str = Field(
        "",
        description="Channels that the name defaults stands for in an environment.yml; empty: Anaconda's own, as in "
        "conda, whose terms of use may not allow it to you (process executor).",
    )
    conda_base_packages: str = Field(
        "jupyterlab notebook ipykernel pip conda",
        description="Packages that are added to every conda environment, if its channels have all of them; otherwise "
        "`BINDERY_BASE_PACKAGES` are (process executor).",
    )
    conda_index_timeout_seconds: float = Field(
        120.0, gt=0, description="How long a conda channel may take to send a part of its index (process executor)."
    )
    conda_solve_timeout_seconds: float = Field(
        300.0, gt=0, description="How long one attempt to solve a conda environment may take (process executor)."
    )
    conda_download_max_bytes: int = Field(
        8 * 2**30, gt=0, description="How large a conda environment's packages may be, packed (process executor)."
    )
    conda_cache_max_bytes: int = Field(
        20 * 2**30,
        ge=0,
        description="Size of the unpacked conda packages that builds share; past it the least used are removed "
        "(process executor).",
    )
    conda_offline: bool = Field(
        False, description="Whether conda packages and indexes come from the cache alone (process executor)."
    )

    @classmethod
    def of(cls, settings: "BuilderSettings") -> Self:
        """Return an executor's settings: the values of the builder's, and the rest from the environment."""
        if isinstance(settings, cls):
            return settings
        return cls(**{name: getattr(settings, name) for name in type(settings).model_fields})

    @model_validator(mode="after")
    def _check_stalls(self) -> Self:
        # A round of the clean-up of executions lasts as long as the longer of the two.
        self.require_longer("loop_stalled_seconds", than="relist_seconds")
        self.require_longer("loop_stalled_seconds", than="build_stop_seconds")
        return self

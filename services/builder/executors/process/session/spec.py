"""`spec.json`: everything that a session is given."""

from pydantic import BaseModel, ConfigDict, Field

from services.common.net.archive_addresses import FIGSHARE_API, HYDROSHARE_API, SOFTWARE_HERITAGE_API, ZENODO_API
from services.common.net.registries import ANACONDA_DEFAULTS, CONDA_CHANNELS

GIB = 2**30
MIB = 2**20


class SessionSettings(BaseModel):
    """Settings of one build. Each step has its own deadline, which progress does not extend."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fetch_timeout_seconds: float = Field(600, description="For fetching the repository and its submodules.")
    environment_timeout_seconds: float = Field(300, description="For finding or downloading the interpreter.")
    install_timeout_seconds: float = Field(1800, description="For resolving and installing the packages.")
    post_build_timeout_seconds: float = Field(900, description="For the repository's postBuild.")
    max_repository_bytes: int = Field(2 * GIB, description="Size of a checkout, submodules and .git included.")
    max_repository_files: int = Field(50_000, description="Number of files of a dataset, folders included.")
    max_unpacked_ratio: float = Field(100, description="How many times as large a packed dataset may become.")
    max_history_bytes: int = Field(
        256 * MIB, description="Size of all history together; a checkout with more is shallow."
    )
    history_timeout_seconds: float = Field(60, description="For fetching the history of one repository.")
    max_lfs_bytes: int = Field(GIB, description="Size of all files in Git LFS together; pointers of more stay.")
    max_line_bytes: int = Field(64 * 1024, description="Longer lines of a log are cut.")
    progress_seconds: float = Field(1, description="How often the log shows a line that is overwritten.")
    max_log_bytes: int = Field(64 * MIB, description="Lines of a build past this size are left out of its log.")
    max_images_bytes: int = Field(
        20 * GIB, description="Size of all images together; past it the least used are removed."
    )
    images_grace_seconds: float = Field(600, description="How long an image that was never launched is kept.")
    git_allowed_protocols: tuple[str, ...] = Field(("http", "https"), description="Protocols of git URLs.")
    allowed_networks: tuple[str, ...] = Field((), description="CIDRs that may be reached although not public.")
    refused_networks: tuple[str, ...] = Field((), description="CIDRs that may not be reached although public.")
    zenodo_api_url: str = Field(ZENODO_API, description="Address of its API.")
    figshare_api_url: str = Field(FIGSHARE_API, description="Address of its API.")
    hydroshare_api_url: str = Field(HYDROSHARE_API, description="Address of its API.")
    software_heritage_api_url: str = Field(SOFTWARE_HERITAGE_API, description="Address of its API.")
    python_downloads: str = Field("automatic", description="`automatic`, or `never` to use what is installed.")
    default_python: str | None = Field(
        None, description="Version or path; none: the interpreter that runs the session."
    )
    base_packages: tuple[str, ...] = Field(
        ("jupyterlab", "notebook", "ipykernel", "pip"), description="Installed beside the repository's own."
    )
    conda_channel_alias: str = Field(CONDA_CHANNELS, description="Where the names of channels lead.")
    conda_default_channels: tuple[str, ...] = Field(("conda-forge",), description="Added to an environment's channels.")
    conda_defaults: tuple[str, ...] = Field(
        ANACONDA_DEFAULTS,
        description="What the channel `defaults` stands for.",
    )
    conda_base_packages: tuple[str, ...] = Field(
        ("jupyterlab", "notebook", "ipykernel", "pip", "conda"),
        description="Added to each conda environment, if its channels have all of them.",
    )
    conda_index_timeout_seconds: float = Field(120, description="For one request for a channel's index.")
    conda_solve_timeout_seconds: float = Field(300, description="For each attempt to solve an environment.")
    conda_download_max_bytes: int = Field(8 * GIB, description="Size of an environment's packages, as they are packed.")
    conda_cache_max_bytes: int = Field(20 * GIB, description="Size of the unpacked packages that builds share.")
    conda_offline: bool = Field(False, description="Whether only what is in the cache is used.")
    base_max_age_seconds: float = Field(7 * 86400, description="How long builds share what was installed for one.")
    uses_overlays: bool = Field(True, description="Servers share an image's files by overlay mounts, not by copies.")
    compiles_bytecode: bool = Field(True, description="Compile what is installed: servers start quicker.")
    bytecode_timeout_seconds: float = Field(1800, description="For compiling it, if that is done after a build.")


class BuildSpec(BaseModel):
    """One build: the repository, its image, the data folder and the settings.

    `content_provider` is `Git`, or one of `archives.listings.LISTINGS`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1
    build_id: str
    image: str
    repo_url: str
    ref: str
    content_provider: str = "Git"
    data_dir: str
    settings: SessionSettings = SessionSettings()

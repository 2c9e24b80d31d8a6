"""The settings of a session, as the builder's settings give them."""

from services.builder.executors.process.session.spec import SessionSettings
from services.builder.settings import BuilderSettings
from services.common.net.registries import ANACONDA_DEFAULTS, CONDA_CHANNELS


def session_settings(settings: BuilderSettings) -> SessionSettings:
    """Return the settings of a session; those that the builder lacks keep the session's default."""
    return SessionSettings(
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
        install_timeout_seconds=settings.install_timeout_seconds,
        post_build_timeout_seconds=settings.postbuild_timeout_seconds,
        progress_seconds=settings.build_progress_seconds,
        max_repository_bytes=settings.fetch_max_bytes,
        max_repository_files=settings.fetch_max_files,
        max_unpacked_ratio=settings.fetch_unpack_max_ratio,
        max_history_bytes=settings.fetch_history_max_bytes,
        history_timeout_seconds=settings.fetch_history_timeout_seconds,
        max_lfs_bytes=settings.fetch_lfs_max_bytes,
        max_images_bytes=settings.images_max_bytes,
        images_grace_seconds=settings.images_grace_seconds,
        uses_overlays=settings.image_overlays,
        base_max_age_seconds=settings.base_max_age_seconds,
        git_allowed_protocols=_split(settings.git_allowed_protocols),
        allowed_networks=_split(settings.allowed_networks),
        refused_networks=_split(settings.refused_networks),
        zenodo_api_url=settings.zenodo_api_url,
        figshare_api_url=settings.figshare_api_url,
        hydroshare_api_url=settings.hydroshare_api_url,
        software_heritage_api_url=settings.software_heritage_api_url,
        python_downloads="automatic" if settings.python_downloads else "never",
        default_python=settings.default_python or None,
        base_packages=tuple(settings.base_packages.split()),
        conda_channel_alias=settings.conda_channel_alias or CONDA_CHANNELS,
        conda_default_channels=_split(settings.conda_default_channels),
        conda_defaults=_split(settings.conda_defaults) or ANACONDA_DEFAULTS,
        conda_base_packages=tuple(settings.conda_base_packages.split()),
        conda_index_timeout_seconds=settings.conda_index_timeout_seconds,
        conda_solve_timeout_seconds=settings.conda_solve_timeout_seconds,
        conda_download_max_bytes=settings.conda_download_max_bytes,
        conda_cache_max_bytes=settings.conda_cache_max_bytes,
        conda_offline=settings.conda_offline,
    )


def _split(text: str) -> tuple[str, ...]:
    """Split a list that is separated by commas, spaces or both."""
    return tuple(text.replace(",", " ").split())

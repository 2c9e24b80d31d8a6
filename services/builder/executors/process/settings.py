"""The settings of a session, as the builder's settings give them."""

from services.builder.executors.process.session.spec import SessionSettings
from services.builder.settings import BuilderSettings


def session_settings(settings: BuilderSettings) -> SessionSettings:
    """Return the settings of a session; those that the builder lacks keep the session's default."""
    return SessionSettings(
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
        install_timeout_seconds=settings.install_timeout_seconds,
        post_build_timeout_seconds=settings.postbuild_timeout_seconds,
        max_repository_bytes=settings.fetch_max_bytes,
        max_history_bytes=settings.fetch_history_max_bytes,
        history_timeout_seconds=settings.fetch_history_timeout_seconds,
        max_lfs_bytes=settings.fetch_lfs_max_bytes,
        max_images_bytes=settings.images_max_bytes,
        images_grace_seconds=settings.images_grace_seconds,
        git_allowed_protocols=_split(settings.git_allowed_protocols),
        allowed_networks=_split(settings.allowed_networks),
        refused_networks=_split(settings.refused_networks),
        python_downloads="automatic" if settings.python_downloads else "never",
        default_python=settings.default_python or None,
        base_packages=tuple(settings.base_packages.split()),
    )


def _split(text: str) -> tuple[str, ...]:
    """Split a list that is separated by commas, spaces or both."""
    return tuple(text.replace(",", " ").split())

"""Fetching what a session builds: a repository by the checked git of `services.common`, or an archive's dataset."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import anyio

from services.builder.executors.process.session.archives.fetch_archive import fetch_archive
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.spec import BuildSpec, SessionSettings
from services.common.git.fetch import fetch_repository
from services.common.git.versions import installed_git
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.networks import NetworkPolicy, look_up
from services.common.net.proxy import OutboundProxy
from services.common.net.tls import tls_context


def prepare() -> None:
    """Do what the first fetch of a process does once, for the processes that are forked from this one.

    What fails here fails again in a fetch, which says so.
    """
    anyio.run(look_up, "127.0.0.1", 80)  # imports what httpcore and asyncio import with their first connection
    with contextlib.suppress(OSError):
        tls_context()
    with contextlib.suppress(RuntimeError):
        installed_git()


async def fetch(
    spec: BuildSpec,
    target: Path,
    on_line: Callable[[str], None],
    *,
    credential: ScopedCredential | None = None,
) -> None:
    """Put what the spec names into `target`; progress goes to `on_line`. Raise `StepError`."""
    settings = spec.settings
    try:
        if spec.content_provider == "Git":
            await _fetch_repository(spec, target, on_line, credential)
        else:
            await fetch_archive(
                spec, target, policy=_policy(settings), proxy=OutboundProxy.of_environment(os.environ), say=on_line
            )
    except BinderyError as error:
        raise StepError(error.code, error.detail) from error
    except TimeoutError as error:
        message = f"The repository was not fetched within {settings.fetch_timeout_seconds:g} seconds"
        raise StepError("fetch_failed", message) from error


async def _fetch_repository(
    spec: BuildSpec, target: Path, on_line: Callable[[str], None], credential: ScopedCredential | None
) -> None:
    settings = spec.settings
    await fetch_repository(
        spec.repo_url,
        spec.ref,
        target,
        policy=_policy(settings),
        proxy=OutboundProxy.of_environment(os.environ),
        timeout_seconds=settings.fetch_timeout_seconds,
        max_bytes=settings.max_repository_bytes,
        max_history_bytes=settings.max_history_bytes,
        history_timeout_seconds=settings.history_timeout_seconds,
        max_lfs_bytes=settings.max_lfs_bytes,
        allowed_protocols=frozenset(settings.git_allowed_protocols),
        on_line=on_line,
        credential=credential,
    )


def _policy(settings: SessionSettings) -> NetworkPolicy:
    return NetworkPolicy.of(",".join(settings.allowed_networks), ",".join(settings.refused_networks))

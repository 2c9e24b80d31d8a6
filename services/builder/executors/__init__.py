"""What runs builds. An executor is found in our own list or by entry point (`bindery.executors`)."""

import os
from importlib.metadata import entry_points

from services.builder.executors.base import Executor
from services.builder.images import FoundImage, Images
from services.builder.settings import BuilderSettings


def make_executor(settings: BuilderSettings) -> tuple[Executor, Images]:
    """The executor that the settings name, and where its images are looked up.

    Raises `ValueError` naming those that there are. Imports only the one that is asked for.
    """
    if settings.executor == "process":
        return _process(settings)
    if settings.executor == "docker":
        return _docker(settings)
    if settings.executor == "kubernetes":
        return _kubernetes(settings)
    found = {point.name: point for point in entry_points(group="bindery.executors")}
    if settings.executor not in found:
        known = ", ".join(sorted({"docker", "kubernetes", "process", *found}))
        raise ValueError(f"BINDERY_EXECUTOR is {settings.executor!r}; there are: {known}.")
    made: tuple[Executor, Images] = found[settings.executor].load()(settings)
    return made


def _registry(settings: BuilderSettings) -> Images:
    """The registry that images are pushed to."""
    from services.builder.registry import registry_images

    return registry_images(settings)


def _engine_images(settings: BuilderSettings) -> Images:
    """The engine that images stay in where they are not pushed, as this process reaches it."""
    from services.builder.executors.docker.engine import Engine
    from services.builder.executors.docker.images import EngineImages
    from services.builder.executors.docker.settings import DockerSettings

    known = DockerSettings.engine_of(settings)
    return EngineImages(Engine(known), known.docker_host)


def _kubernetes(settings: BuilderSettings) -> tuple[Executor, Images]:
    from services.builder.executors.kubernetes.executor import KubernetesExecutor
    from services.builder.executors.kubernetes.settings import KubernetesSettings

    known = KubernetesSettings.of(settings)
    if settings.build_push:
        return KubernetesExecutor(known), _registry(settings)
    if not known.kubernetes_docker_host:
        raise ValueError(
            "BINDERY_BUILD_PUSH=false leaves each image in the engine that has built it, but "
            "BINDERY_KUBERNETES_DOCKER_HOST is empty: the image would go with its pod. "
            "Name the node's engine there and in BINDERY_DOCKER_HOST, or push."
        )
    return KubernetesExecutor(known), _engine_images(settings)


def _docker(settings: BuilderSettings) -> tuple[Executor, Images]:
    from services.builder.executors.docker.executor import DockerExecutor
    from services.builder.executors.docker.settings import DockerSettings

    images = _registry(settings) if settings.build_push else _engine_images(settings)
    return DockerExecutor(DockerSettings.of(settings)), images


def _process(settings: BuilderSettings) -> tuple[Executor, Images]:
    from services.builder.executors.process.executor import ProcessExecutor
    from services.builder.executors.process.images import ProcessImages
    from services.builder.executors.process.session.spec import SessionSettings

    session = SessionSettings(
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
        install_timeout_seconds=settings.install_timeout_seconds,
        post_build_timeout_seconds=settings.postbuild_timeout_seconds,
        max_repository_bytes=settings.fetch_max_bytes,
        max_images_bytes=settings.images_max_bytes,
        images_grace_seconds=settings.images_grace_seconds,
        git_allowed_protocols=tuple(filter(None, settings.git_allowed_protocols.replace(",", " ").split())),
        allowed_networks=tuple(filter(None, settings.allowed_networks.replace(",", " ").split())),
        refused_networks=tuple(filter(None, settings.refused_networks.replace(",", " ").split())),
        python_downloads="automatic" if settings.python_downloads else "never",
        default_python=settings.default_python or None,
        base_packages=tuple(settings.base_packages.split()),
    )
    data_dir = settings.data_dir.absolute()

    class Folders:
        """The images that lie on this machine; a folder has no digest."""

        def __init__(self) -> None:
            self._images = ProcessImages(data_dir)

        async def find(self, image: str) -> FoundImage | None:
            return FoundImage() if await self._images.has(image) else None

        async def trouble(self) -> str | None:
            writable = os.access(data_dir, os.W_OK)
            return None if writable else f"{data_dir} can't be written to"

        async def aclose(self) -> None:
            pass

    return ProcessExecutor(data_dir, session, settings.proxy), Folders()

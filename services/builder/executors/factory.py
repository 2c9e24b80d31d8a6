"""The choice of an executor: one of our own, or one of the entry point group `bindery.executors`.

Each factory imports only what it makes, so that an executor's libraries need not be installed for another one.
"""

from collections.abc import Callable
from importlib.metadata import entry_points

from services.builder.executors.base import Executor
from services.builder.images import ImageLookup
from services.builder.settings import BuilderSettings
from services.common.service.plugins import loading_plugin

ENTRY_POINTS = "bindery.executors"
Factory = Callable[[BuilderSettings], tuple[Executor, ImageLookup]]


def make_executor(settings: BuilderSettings) -> tuple[Executor, ImageLookup]:
    """Return the executor that the settings name, and the lookup of its images.

    Raise `ValueError` with the possible names if there is no such executor, and `CannotStart` for an entry point that
    can't be loaded.
    """
    if settings.executor in FACTORIES:
        return FACTORIES[settings.executor](settings)

    plugins = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if settings.executor not in plugins:
        names = ", ".join(sorted({*FACTORIES, *plugins}))
        raise ValueError(f"BINDERY_EXECUTOR is {settings.executor!r}; there are: {names}.")

    with loading_plugin(settings.executor, ENTRY_POINTS, service="builder", setting="BINDERY_EXECUTOR"):
        factory: Factory = plugins[settings.executor].load()
        executor, images = factory(settings)
    return executor, images


def _process(settings: BuilderSettings) -> tuple[Executor, ImageLookup]:
    from services.builder.executors.process.executor import ProcessExecutor
    from services.builder.executors.process.images import ProcessImages
    from services.builder.executors.process.settings import session_settings

    data_dir = settings.data_dir.absolute()
    executor = ProcessExecutor(data_dir, session_settings(settings), settings.proxy)
    return executor, ProcessImages(data_dir, has_overlays=settings.image_overlays)


def _docker(settings: BuilderSettings) -> tuple[Executor, ImageLookup]:
    from services.builder.executors.docker.executor import DockerExecutor
    from services.builder.executors.docker.settings import DockerSettings

    images = _registry_images(settings) if settings.build_push else _engine_images(settings)
    return DockerExecutor(DockerSettings.of(settings)), images


def _kubernetes(settings: BuilderSettings) -> tuple[Executor, ImageLookup]:
    from services.builder.executors.kubernetes.executor import KubernetesExecutor
    from services.builder.executors.kubernetes.settings import KubernetesSettings

    kubernetes_settings = KubernetesSettings.of(settings)
    if settings.build_push:
        return KubernetesExecutor(kubernetes_settings), _registry_images(settings)

    if not kubernetes_settings.kubernetes_docker_host:
        raise ValueError(
            "BINDERY_BUILD_PUSH=false leaves each image in the engine that has built it, but "
            "BINDERY_KUBERNETES_DOCKER_HOST is empty: the image would go with its pod. "
            "Name the node's engine there and in BINDERY_DOCKER_HOST, or push."
        )
    return KubernetesExecutor(kubernetes_settings), _engine_images(settings)


def _registry_images(settings: BuilderSettings) -> ImageLookup:
    """Return the lookup for images that are pushed."""
    from services.builder.registry import RegistryImages

    return RegistryImages(settings)


def _engine_images(settings: BuilderSettings) -> ImageLookup:
    """Return the lookup for images that stay in the engine, at its address for this process."""
    from services.builder.executors.docker.engine import Engine
    from services.builder.executors.docker.images import EngineImages
    from services.builder.executors.docker.settings import DockerSettings

    engine_settings = DockerSettings.engine_of(settings)
    return EngineImages(Engine(engine_settings), engine_settings.docker_host)


FACTORIES: dict[str, Factory] = {"docker": _docker, "kubernetes": _kubernetes, "process": _process}
"""Our own executors, by the value of the setting `executor` that selects each."""

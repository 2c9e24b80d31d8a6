"""Image lookups in an engine, for installations that push nothing: BinderHub's `use_registry=False`."""

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.docker.engine import Engine, EngineError, image_path
from services.builder.images import ExistingImage
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.service.logging import get_logger

log = get_logger(__name__)


class EngineImages:
    """The images of the engine that builds. Without a registry, only some engines give an image a digest."""

    def __init__(self, engine: Engine, address: str) -> None:
        self._engine = engine
        self._address = address

    async def find(self, image: str) -> ExistingImage | None:
        """Return the image, or None. Raise `BinderyError("registry_unavailable")` if the engine does not answer."""
        try:
            description = await self._engine.call("GET", image_path(image))
        except EngineError as error:
            if error.status == 404:
                return None
            log.warning("engine_refuses", doing="find", engine=self._address, error=str(error))
            sentence = "The container engine, which has the images, refuses to list them."
            raise BinderyError("registry_unavailable", sentence) from error
        except ExecutorUnavailableError as error:
            log.warning("engine_away", doing="find", engine=self._address, error=str(error))
            sentence = "The container engine, which has the images, does not answer."
            raise BinderyError("registry_unavailable", sentence) from error

        repository = image.rpartition(":")[0]
        names = (str(name).partition("@") for name in only_dict(description).get("RepoDigests") or [])
        return ExistingImage(next((digest for name, _, digest in names if name == repository), None))

    async def health_problem(self) -> str | None:
        """Return a sentence if the engine does not answer."""
        try:
            await self._engine.call("GET", "/_ping")
        except (EngineError, ExecutorUnavailableError) as error:
            return f"the container engine at {self._address}, which has the images, does not answer: {error}"
        return None

    async def aclose(self) -> None:
        """Close connections."""
        await self._engine.aclose()

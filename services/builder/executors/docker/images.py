"""The images of an engine, where nothing is pushed: BinderHub's `use_registry=False`."""

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.docker.engine import Engine, EngineError, image_path
from services.builder.images import ExistingImage
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger

log = get_logger(__name__)


class EngineImages:
    """Answers for the engine that builds. Without a registry an image has a digest only in engines that keep one."""

    def __init__(self, engine: Engine, address: str) -> None:
        self._engine, self._address = engine, address

    async def find(self, image: str) -> ExistingImage | None:
        """The image, or None. Raises `BinderyError("registry_unavailable")` when the engine does not answer."""
        try:
            found = await self._engine.call("GET", image_path(image))
        except EngineError as error:
            if error.status == 404:
                return None
            log.warning("engine_refuses", doing="find", engine=self._address, error=str(error))
            said = "The container engine, which has the images, refuses to say which."
            raise BinderyError("registry_unavailable", said) from error
        except ExecutorUnavailableError as error:
            log.warning("engine_away", doing="find", engine=self._address, error=str(error))
            said = "The container engine, which has the images, does not answer."
            raise BinderyError("registry_unavailable", said) from error
        digests = (name.partition("@") for name in found.get("RepoDigests") or [])
        repository = image.rpartition(":")[0]
        return ExistingImage(next((digest for name, _, digest in digests if name == repository), None))

    async def trouble(self) -> str | None:
        """Say when the engine does not answer."""
        try:
            await self._engine.call("GET", "/_ping")
        except (EngineError, ExecutorUnavailableError) as error:
            return f"the container engine at {self._address}, which has the images, does not answer: {error}"
        return None

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._engine.aclose()

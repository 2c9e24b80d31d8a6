"""Resource classes: the resources of a server of each class, and the number of seats that it takes."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.common.models import ResolvedRepo
from services.common.models.errors import BinderyError
from services.common.service.sizes import parse_size


def _bytes(value: Any) -> Any:
    """Return a number of bytes, also from `512M` or `2Gi`: units are powers of 1024, as JupyterHub's are."""
    return parse_size(value) if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]


class ResourceClass(BaseModel):
    """One named class. A value that it lacks is left to the spawner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_guarantee: Bytes | None = None
    memory_limit: Bytes | None = None
    cpu_guarantee: float | None = Field(None, gt=0)
    cpu_limit: float | None = Field(None, gt=0)
    gpus: int | None = Field(None, ge=0)
    cost: int = Field(1, ge=1, description="Seats that a server of this class takes of the total.")
    is_offered: bool = Field(False, description="Whether a launch may ask for it; else only the operator gives it.")

    @property
    def for_spawner(self) -> dict[str, int | float]:
        """Value of `user_options.bindery_resources`, in bytes, cores and whole GPUs."""
        return self.model_dump(exclude_none=True, exclude={"cost", "is_offered"})


class ResourceClasses(BaseModel):
    """All resource classes, and the default for repositories without one; "" if those get no class."""

    model_config = ConfigDict(frozen=True)

    classes: dict[str, ResourceClass]
    default: str

    def name_for(self, repo: ResolvedRepo) -> str:
        """Return the class of a repository's servers, "" for none. Raise `BinderyError("unknown_resource_class")`."""
        name = repo.resource_class or self.default
        if name and name not in self.classes:
            names = ", ".join(sorted(self.classes)) or "none"
            raise BinderyError("unknown_resource_class", f"There is no resource class {name!r}; there are: {names}.")
        return name

    def choose(self, repo: ResolvedRepo, requested: str | None) -> ResolvedRepo:
        """Return `repo` with the class that its launch requests, or unchanged if it requests none.

        Raise `BinderyError`: `resource_class_not_offered`, or `unknown_resource_class` for the repository's own.
        """
        if requested and requested != repo.resource_class:
            offered = sorted(name for name, resource_class in self.classes.items() if resource_class.is_offered)
            if requested not in offered:
                on_offer = ", ".join(offered) or "none"
                raise BinderyError(
                    "resource_class_not_offered",
                    f"A launch can't ask for the resource class {requested!r}; on offer: {on_offer}.",
                )
            repo = repo.updated(resource_class=requested)
        self.name_for(repo)
        return repo

    def cost(self, name: str) -> int:
        """Return how many seats a server of a class takes; 1 if the class no longer exists."""
        return self.classes[name].cost if name in self.classes else 1

    def for_spawner(self, repo: ResolvedRepo) -> dict[str, Any]:
        """Return the `user_options` for a repository's class, empty if it has none. Raise `BinderyError`."""
        name = self.name_for(repo)
        if not name:
            return {}
        return {"bindery_resource_class": name, "bindery_resources": self.classes[name].for_spawner}

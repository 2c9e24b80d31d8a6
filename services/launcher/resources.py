"""Resource classes: what a server of a class may use, and how many seats it takes."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.common.models import ResolvedRepo
from services.common.models.errors import BinderyError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B?)", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _bytes(value: Any) -> Any:
    """A number of bytes, also from `512M` or `2Gi`: units are powers of 1024, as JupyterHub's are."""
    if isinstance(value, str):
        if (found := _SIZE.fullmatch(value.strip())) is None:
            raise ValueError(f"{value!r} is no size: write 512M or 2G")
        return int(float(found[1]) * _UNITS[found[2].upper()])
    return value


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]


class ResourceClass(BaseModel):
    """One named class. What it leaves out is left to the spawner."""

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
        """What the spawner is told, as `user_options.bindery_resources`: bytes, cores and whole GPUs."""
        return self.model_dump(exclude_none=True, exclude={"cost", "is_offered"})


class ResourceClasses(BaseModel):
    """The classes that there are, and the one for repositories that name none; "" where those get no class."""

    model_config = ConfigDict(frozen=True)

    classes: dict[str, ResourceClass]
    default: str

    def name_for(self, repo: ResolvedRepo) -> str:
        """The class of a repository's servers; "" for none. Raises `BinderyError("unknown_resource_class")`."""
        name = repo.resource_class or self.default
        if name and name not in self.classes:
            there_are = ", ".join(sorted(self.classes)) or "none"
            raise BinderyError(
                "unknown_resource_class", f"There is no resource class {name!r}; there are: {there_are}."
            )
        return name

    def chosen(self, repo: ResolvedRepo, asked: str | None) -> ResolvedRepo:
        """`repo` with the class that its launch asks for, if it does.

        Raises `BinderyError`: `resource_class_not_offered`, or `unknown_resource_class` for the repository's own.
        """
        if asked and asked != repo.resource_class:
            if asked not in (offered := sorted(name for name, found in self.classes.items() if found.is_offered)):
                raise BinderyError(
                    "resource_class_not_offered",
                    f"A launch can't ask for the resource class {asked!r}; on offer: {', '.join(offered) or 'none'}.",
                )
            repo = repo.updated(resource_class=asked)
        self.name_for(repo)
        return repo

    def cost(self, name: str) -> int:
        """How many seats a server of a class takes; 1 where the class is not known any more."""
        return self.classes[name].cost if name in self.classes else 1

    def for_spawner(self, repo: ResolvedRepo) -> dict[str, Any]:
        """The `user_options` that tell the spawner of a class; none where there is none. Raises `BinderyError`."""
        if not (name := self.name_for(repo)):
            return {}
        return {"bindery_resource_class": name, "bindery_resources": self.classes[name].for_spawner}

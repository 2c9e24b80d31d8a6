"""What a repository asks for itself in `bindery.yaml`: a resource class, granted where the policy lets it.

The file lies in `binder/` or `.binder/`, where repo2docker's files may lie, and is read through the API of the forge.
"""

from collections.abc import Mapping

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.git.words import printable
from services.common.models import ResolvedRepo
from services.common.models.base import faults_of
from services.resolver.providers.base import Provider

FOLDERS = ("binder", ".binder")
"""In the order in which repo2docker looks for a folder."""
NAME = "bindery.yaml"
MAX_BYTES = 16 * 1024
GRANTED = "resource_classes"
"""The key of a repository's configuration with the classes that it may ask for."""


class Wishes(BaseModel):
    """The content of the file. Keys that this release does not know are left to later ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    resource_class: str | None = Field(None, min_length=1, max_length=64)


class RepositoryWishes:
    """Reads the files of repositories through `providers`, and grants what the policy lets them have."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers

    async def granted(self, provider: Provider, repo: ResolvedRepo) -> ResolvedRepo:
        """Return a repository with the resource class that it asks for, or with a notice why it has another.

        A repository that may not ask for any is not asked. Raise `BinderyError`, as `Provider.read_file` does.
        """
        allowed = [str(name) for name in repo.config.get(GRANTED) or ()]
        if not allowed:
            return repo
        path, content = await self._read(provider, repo)
        if content is None:
            return repo
        try:
            wished = _parsed(content).resource_class
        except ValueError as error:
            return _noticed(repo, f"{path} can't be read, so what it asks for is not granted: {error}.")
        if wished is None or wished in allowed:
            return repo.updated(resource_class=wished or repo.resource_class)
        names = ", ".join(allowed)
        return _noticed(
            repo,
            f"{path} asks for the resource class {printable(wished)}, which this repository may not have: {names}.",
        )

    async def _read(self, provider: Provider, repo: ResolvedRepo) -> tuple[str, bytes | None]:
        """Return the path of the file and its content; None if there is no file, or nobody who can read one."""
        for candidate in (provider, *self._providers.values()):
            if repository := candidate.repository_of(repo.repo_url):
                for folder in FOLDERS:
                    path = f"{folder}/{NAME}"
                    if (content := await candidate.read_file(repository, repo.ref, path)) is not None:
                        return path, content
                break
        return "", None


def _parsed(content: bytes) -> Wishes:
    """Return the wishes in a file. Raise `ValueError`, whose text is for the author."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1024} KiB")
    try:
        return Wishes.model_validate(yaml.safe_load(content) or {})
    except ValidationError as error:
        raise ValueError(faults_of(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("it is not YAML") from error


def _noticed(repo: ResolvedRepo, sentence: str) -> ResolvedRepo:
    return repo.updated(notice=f"{repo.notice} {sentence}" if repo.notice else sentence)

"""What a worker reads a build's repository with: the credential of a launch, or the operator's."""

from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext
from services.common.models import ResolvedRepo, Visibility
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.records.stored_record import StoredRecord

GONE = "The credential that came with the launch is not kept any more. Launch again."


class RepositoryAccess:
    """Access to the repository of one build, whose record was claimed as `stored`."""

    def __init__(self, stored: StoredRecord, context: ProcessContext, settings: BuilderSettings) -> None:
        self._stored = stored
        self._context = context
        self._settings = settings
        self._of_launch: ScopedCredential | None = None
        self._is_gone = False

    async def credential(self) -> ScopedCredential | None:
        """Return the credential; None for a public repository, without one, and if those of its launches are gone.

        An execution that has it already goes on without it: only one that still has to fetch fails.
        """
        repo = self._stored.model_of_field("repo", ResolvedRepo)
        if repo.visibility is Visibility.PUBLIC:
            return None
        if not (ids := self._stored.get("credentials").split()):
            return self._settings.credential_for(repo.repo_url)
        if self._of_launch is None:
            self._of_launch = await self._context.git_credentials.read_first(ids)
            self._is_gone = self._of_launch is None
        return self._of_launch

    def explained(self, error: BinderyError) -> BinderyError:
        """Return the error of an execution, or the reason for it: that it could not read its repository."""
        cannot_read = error.has_code("ref_not_found", "fetch_failed", "build_failed")
        return BinderyError("fetch_failed", GONE) if self._is_gone and cannot_read else error

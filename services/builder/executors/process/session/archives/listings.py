"""The archives that datasets are fetched from, by the name of repo2docker's content provider for each."""

from collections.abc import Awaitable, Callable, Mapping

from services.builder.executors.process.session.archives import (
    ckan,
    dataverse,
    figshare,
    hydroshare,
    software_heritage,
    zenodo,
)
from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import Listing, Say
from services.builder.executors.process.session.spec import BuildSpec

List = Callable[[BuildSpec, ArchiveApi, Say], Awaitable[Listing]]
"""Returns the files of a spec's dataset. Raises `BinderyError`, as `ArchiveApi.get` does."""

LISTINGS: Mapping[str, List] = {
    "CKAN": ckan.list_dataset,
    "Dataverse": dataverse.list_dataset,
    "Figshare": figshare.list_article,
    "Hydroshare": hydroshare.list_resource,
    "Swhid": software_heritage.list_directory,
    "Zenodo": zenodo.list_record,
}

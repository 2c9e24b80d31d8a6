"""Releases of the chart that a module of tests makes; each is removed at its end, however far it has come."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from tests.support.engine import Engine
from tests.support.helm_release import HelmRelease


@dataclass(frozen=True, kw_only=True)
class Releases:
    """What releases of a module have in common."""

    folder: Path
    cluster: Cluster
    engine: Engine
    images: dict[str, Any]
    """The images of an installation, as values of the chart."""

    @contextlib.contextmanager
    def new(self, *, kind: type[HelmRelease] = HelmRelease, **values: Any) -> Iterator[HelmRelease]:
        """Give a release, with values of its own, that is not installed yet; one at a time, as they share a folder."""
        release = kind(self.folder, cluster=self.cluster, engine=self.engine, images=self.images, **values)
        try:
            yield release
        finally:
            release.remove()

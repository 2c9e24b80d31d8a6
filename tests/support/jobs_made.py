"""Every Job that is made in a namespace, as the API server tells it, whoever makes it and deletes it again."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.cluster import Cluster


@contextlib.contextmanager
def jobs_made(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Path]:
    """Record every Job that is made in the namespace during the block: a file with a line for each."""
    form = 'jsonpath={.type} {.object.metadata.uid}{"\\n"}'
    path = folder / "jobs"
    with path.open("wb") as output:
        watch = subprocess.Popen(
            [cluster.kubectl_program, "--kubeconfig", str(cluster.kubeconfig), "-n", namespace, "get", "jobs",
             "--watch", "--output-watch-events", "-o", form], stdout=output, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield path
        finally:
            watch.terminate()
            watch.wait(10)


def count_of(jobs: Path) -> int:
    """Return how many different Jobs were recorded."""
    return len({line for line in jobs.read_text().splitlines() if line.startswith("ADDED ")})

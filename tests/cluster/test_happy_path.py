"""A repository becomes an image: by repo2docker in a Job, through the queue, into the registry."""

import re

from tests.cluster.conftest import Start
from tests.support.cluster import Namespace
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge

KINDS = ("jobs", "pods", "secrets", "configmaps")


def test_a_repository_with_a_dockerfile_is_built_in_a_job_pushed_and_found_by_its_digest(
    start: Start, forge: Forge, namespace: Namespace, the_engine: Engine
) -> None:
    builders = start()
    dockerfile = f"FROM {the_engine.jupyter}\nLABEL here=there\nRUN echo hello from the build\n"
    sha = forge.create_repo("org", "first", {"Dockerfile": dockerfile})
    asked = builders.ask(f"{forge.url}/org/first", sha)
    assert asked["state"] in {"queued", "running"}
    builders.until_said(asked["build_id"], "hello from the build", 120)
    built = builders.outcome(asked["build_id"], 240)
    assert built["state"] == "built", builders.log(asked["build_id"])
    assert re.fullmatch("sha256:[0-9a-f]{64}", built["digest"])
    again = builders.ask(f"{forge.url}/org/first", sha)
    assert (again["state"], again["digest"]) == ("built", built["digest"])

    by_digest = f"{built['image'].rpartition(':')[0]}@{built['digest']}"
    the_engine.docker("pull", "--quiet", by_digest)
    said = the_engine.docker("run", "--rm", by_digest, "python3", "-c", "import jupyter_server; print('it runs')")
    assert "it runs" in said
    labels = the_engine.docker("inspect", "--format", "{{json .Config.Labels}}", by_digest)
    assert f'"org.opencontainers.image.revision":"{sha}"' in labels
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the build")

"""A registry that refuses an image: the worker's health says so to the operator, until it accepts one."""

import pytest

from services.builder.executors.base import Finished
from services.builder.worker.pushes import Pushes
from services.common.models import Build, BuildState
from services.common.models.errors import BinderyError
from tests.support.in_process_builder import image_of
from tests.support.in_process_worker import StartWorker
from tests.support.polling import until

A_BUILD = Build(
    build_id="b-1", image="r.example.org/x:1", state=BuildState.RUNNING, created_at=0.0,
    repo_url="https://example.org/x", ref="1",
)  # fmt: skip
REFUSED = "The registry refused the image: unauthorized: authentication required"


async def test_a_push_that_is_refused_fails_the_health_of_its_worker_until_one_is_accepted(
    started: StartWorker,
) -> None:
    async with started(Finished(False, "push_denied", REFUSED), build_slots=1) as worker:
        worker.begin()
        assert await worker.worker.pushes.health_problem() is None
        build = await worker.builder.request_build("repo", launch_ref="launch")
        await worker.builder.admit()
        await until(worker.worker.pushes.health_problem, "health shows the refusal")
        failure = await worker.worker.pushes.health_problem()
        assert failure
        assert failure.detail == (
            f"{REFUSED}. To mend it, see that the login in BINDERY_DOCKER_CONFIG may push under BINDERY_IMAGE_PREFIX."
        )
        assert "unauthorized" not in failure.shown
        assert build.image == image_of("repo", "a")
        ended = await worker.builder.builds.read(build.build_id or "")
        assert ended.error
        assert (ended.error.code, ended.error.whose_move) == ("push_denied", "operator")

        worker.worker.pushes.note(ended.updated(state=BuildState.BUILT, error=None))
        assert await worker.worker.pushes.health_problem() is None


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("failed to push r/x: denied: quota exceeded", "make room in it, or raise the quota there"),
        ("http: server gave HTTP response to HTTPS client", "name it in the engine's insecure-registries"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "trust its certificate"),
        ("denied: requested access to the resource is denied", "may push under BINDERY_IMAGE_PREFIX"),
    ],
)
async def test_what_to_do_depends_on_what_the_registry_said(said: str, remedy: str) -> None:
    pushes = Pushes(shown_seconds=60)
    pushes.note(A_BUILD.updated(state=BuildState.FAILED, error=BinderyError("push_denied", said).problem))
    failure = await pushes.health_problem()
    assert failure
    assert remedy in failure.detail


async def test_an_authors_failure_and_a_refusal_of_long_ago_are_no_matter_of_health() -> None:
    pushes = Pushes(shown_seconds=60)
    pushes.note(A_BUILD.updated(state=BuildState.FAILED, error=BinderyError("build_failed", "no").problem))
    assert await pushes.health_problem() is None
    forgotten = Pushes(shown_seconds=0)
    forgotten.note(A_BUILD.updated(state=BuildState.FAILED, error=BinderyError("push_denied", "no").problem))
    assert await forgotten.health_problem() is None

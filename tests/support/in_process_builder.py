"""A builder without workers in the test's process: attempts and admission on a real Redis."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from services.builder.context import BuilderContext
from services.builder.executors.base import Executor
from services.builder.executors.factory import make_executor
from services.builder.images import ImageLookup
from services.builder.queue.admission import Admission
from services.builder.queue.attempts import Attempts, build_topic
from services.builder.queue.builds import Builds
from services.builder.queue.cleanup import Cleanup
from services.builder.queue.dispatch import Dispatcher
from services.builder.queue.leftovers import Leftovers
from services.builder.settings import BuilderSettings
from services.common.context import ProcessContext, open_context
from services.common.models import Build, BuildRequest, ResolvedRepo
from services.common.records.leases import ServiceMember
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey, member_of


@dataclass(kw_only=True)
class Builder:
    """The parts of one builder process, and what tests do with it."""

    context: ProcessContext
    settings: BuilderSettings
    attempts: Attempts
    builds: Builds
    dispatcher: Dispatcher
    admission: Admission
    cleanup: Cleanup
    leftovers: Leftovers
    executor: Executor
    images: ImageLookup

    def service_context(
        self,
        *,
        member: ServiceMember | None = None,
        executor: Executor | None = None,
        images: ImageLookup | None = None,
        builds: Builds | None = None,
    ) -> BuilderContext:
        """Return the service's own context, with parts of the test's in place of this builder's."""
        return BuilderContext(
            common=self.context, settings=self.settings, member=member or member_of(self.context, "builder"),
            executor=executor or self.executor, images=images or self.images, attempts=self.attempts,
            builds=builds or self.builds, dispatcher=self.dispatcher, admission=self.admission,
            cleanup=self.cleanup,
        )  # fmt: skip

    async def request_build(self, repo: str, ref: str = "a", launch_ref: str = "") -> Build:
        """Begin an attempt at a repository's image, or join the current one."""
        return await self.attempts.start(image_of(repo, ref), request_for(repo, ref, launch_ref))

    async def offer_slots(self, worker: str, slots: int) -> None:
        """Offer the slots of a living worker."""
        await self.context.redis.set(self.context.keys.alive(worker), "1")
        await self.context.redis.hset(self.context.keys("slots"), worker, slots)

    async def running(self) -> set[str]:
        """Return the builds that have a slot."""
        return {raw.decode() for raw in await self.context.redis.hkeys(self.context.keys("{queue}:running"))}

    async def admit(self) -> list[str]:
        """Run one round of admission; return the builds that got a slot."""
        before = await self.running()
        await self.admission.admit()
        return sorted(await self.running() - before)

    async def sweep(self) -> None:
        """Do one round of all that the process which sweeps does."""
        await self.admission.sweep()
        await self.cleanup.expire()
        await self.cleanup.store_logs()
        await self.dispatcher.drop_stale()
        await self.leftovers.stop_if_due()

    async def end(self, build: Build) -> None:
        """Let a build end, as its worker would."""
        build_id = build.build_id or ""
        await self.context.redis.hset(self.context.keys.record(build_topic(build_id)), mapping={"final": "1"})
        await self.admission.done(build_id)


def image_of(repo: str, ref: str) -> str:
    return f"bindery/{repo}:{ref}"


def request_for(repo: str, ref: str, launch_ref: str = "") -> BuildRequest:
    url = f"https://example.org/{repo}"
    resolved = ResolvedRepo(
        provider="git", spec=f"{repo}/{ref}", repo_url=url, ref=ref, resolved_spec=f"{repo}/{ref}", ref_url=url,
        slug=repo, display_name=repo,
    )  # fmt: skip
    return BuildRequest(repo=resolved, launch_ref=launch_ref or None)


@contextlib.asynccontextmanager
async def open_builder(valkey: Valkey, folder: Path, **others: object) -> AsyncIterator[Builder]:
    """Open one builder process, as far as Redis can tell."""
    values = {"redis_url": valkey.url, "data_dir": folder, **QUICK, **others}
    settings = settings_for(BuilderSettings, values)
    async with open_context(settings) as context:
        executor, images = make_executor(settings)
        attempts = Attempts(context, settings, executor)
        builds = Builds(context=context, settings=settings, attempts=attempts, images=images)
        dispatcher = Dispatcher(context, attempts.scripts)
        admission = Admission(
            context=context,
            settings=settings,
            attempts=attempts,
            builds=builds,
            dispatcher=dispatcher,
        )
        leftovers = Leftovers(context=context, settings=settings, attempts=attempts, executor=executor)
        cleanup = Cleanup(
            context=context,
            settings=settings,
            attempts=attempts,
            builds=builds,
            dispatcher=dispatcher,
            leftovers=leftovers,
        )
        yield Builder(
            context=context, settings=settings, attempts=attempts, builds=builds, dispatcher=dispatcher,
            admission=admission, cleanup=cleanup, leftovers=leftovers, executor=executor, images=images,
        )  # fmt: skip

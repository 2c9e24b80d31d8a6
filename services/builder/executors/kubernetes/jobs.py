"""Jobs and their Secrets: made, claimed, looked for and deleted, always by name or label at the API server itself."""

import asyncio
import secrets
from collections.abc import Sequence

from services.builder.executors.base import Attempt, ExecutorUnavailableError
from services.builder.executors.build_credentials import BuildCredentials, CredentialsForBuilds
from services.builder.executors.failure_classifier import TAIL_LINES
from services.builder.executors.kubernetes.api import Api, ApiError, Json
from services.builder.executors.kubernetes.cluster_cache import JOBS, PODS
from services.builder.executors.kubernetes.manifest import (
    CONFIG_FILE,
    Command,
    installation_label,
    job_name,
    job_of,
    literal,
    preferred_node,
    secret_of,
)
from services.builder.executors.kubernetes.obstacles import QUOTA, Obstacle, quota_obstacle
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import (
    BUILD_ID,
    CONTAINER,
    EPOCH,
    IMAGE_KEY,
    INSTALLATION,
    JobState,
    PodState,
)
from services.builder.executors.repo2docker import PROGRAM, arguments, config_text, environment
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger

log = get_logger(__name__)

SECRETS = "/api/v1/namespaces/{namespace}/secrets"
_PAGE = "500"


class Jobs:
    """The Jobs of one installation. Every call may raise `ExecutorUnavailableError`."""

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api, self._settings = api, settings
        self._refused: dict[str, Obstacle] = {}
        self._ensured: dict[str, str] = {}
        self._logins = CredentialsForBuilds(settings)

    async def ensure(self, attempt: Attempt) -> None:
        """Make the Job and its Secret where they are missing. One that a quota refuses is `refused`.

        The Job comes first: whoever dies in between leaves a Job that ends by its deadline and goes by its TTL, and a
        Secret is never without an owner. Its pod waits for the Secret. Raises `BinderyError`.
        """
        name = job_name(attempt.name)
        try:
            command = await self._command(attempt)
        except ExecutorUnavailableError:
            if (there := await self.read(name)) is None:
                raise
            await self._found(there, attempt)  # it has had its logins when it was made
            return
        node = await self._sticky_node(attempt)
        secret = f"{name}-{secrets.token_hex(4)}"
        try:
            body = job_of(attempt, command, self._settings, secret=secret, node=node)
            found = JobState.of(await self._api.call("POST", JOBS, body=body))
            log.info("job_created", job=name, build_id=attempt.build_id)
        except ApiError as error:
            is_full = error.status == 403 and QUOTA in error.message  # said of a Job that is there already, too
            if error.status != 409 and not is_full:
                raise _refusal(error) from None
            there = await self.read(name)
            if there is None and is_full:
                self._refused[name] = quota_obstacle(error.message, self._settings)
                self._ensured.pop(name, None)
                return
            if there is None:
                raise ExecutorUnavailableError(f"the Job {name} is just being removed") from None
            found = there
        if not found.is_ended:
            await self._give_secret(found, command)
        await self._found(found, attempt)

    async def _found(self, job: JobState, attempt: Attempt) -> None:
        self._refused.pop(job.name, None)
        self._ensured[job.name] = job.uid
        await self._raise_epoch(job, attempt.epoch)

    def refused(self, attempt: Attempt) -> Obstacle | None:
        """Why the attempt's Job could not be made."""
        return self._refused.get(job_name(attempt.name))

    async def identify(self, attempt: Attempt) -> str:
        """The uid of the attempt's Job, that which `ensure` has just made or found; empty for one that is not there."""
        name = job_name(attempt.name)
        if ensured := self._ensured.pop(name, ""):
            return ensured
        there = None if name in self._refused else await self.read(name)
        return there.uid if there else ""

    def forget(self, build_id: str) -> None:
        """Nobody waits any more for this attempt's Jobs that were refused, or begins to follow one."""
        name = job_name(build_id)
        for known in (self._refused, self._ensured):
            for one in [one for one in known if one == name or one.startswith(f"{name}-r")]:
                del known[one]

    async def retry(self, attempt: Attempt) -> bool:
        """Try again to make a Job that was refused; whether it is there now."""
        await self.ensure(attempt)
        return self.refused(attempt) is None

    async def read(self, name: str) -> JobState | None:
        """A Job by its name."""
        try:
            return JobState.of(await self._api.call("GET", f"{JOBS}/{name}"))
        except ApiError as error:
            if error.status == 404:
                return None
            raise _refusal(error) from None

    async def list(self, build_id: str = "", *, image_key: str = "") -> Sequence[JobState]:
        """This installation's Jobs, or those of one attempt, or at one image."""
        return [JobState.of(raw) for raw in await self._list(JOBS, build_id, image_key)]

    async def pods(self, build_id: str) -> Sequence[PodState]:
        """The pods of one attempt."""
        return [PodState.of(raw) for raw in await self._list(PODS, build_id)]

    async def delete(self, name: str, *, uid: str = "") -> None:
        """Delete a Job with what it owns, if it has this uid where one is given; fine if it is gone."""
        body: Json = {"propagationPolicy": "Background"} | ({"preconditions": {"uid": uid}} if uid else {})
        try:
            await self._api.call("DELETE", f"{JOBS}/{name}", body=body)
        except ApiError as error:
            if error.status != 404 and not (uid and error.status == 409):
                raise _refusal(error) from None

    async def until_gone(self, build_id: str, seconds: float) -> None:
        """Wait until no pod of an attempt is left. Raises `ExecutorUnavailableError` when one stays."""
        wait_seconds = 0.1
        try:
            async with asyncio.timeout(seconds):
                while await self.pods(build_id):
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(1.0, 2 * wait_seconds)
        except TimeoutError:
            raise ExecutorUnavailableError(f"a pod of {build_id} is not gone after {seconds:.0f} s") from None

    async def tail(self, pod: str) -> Sequence[bytes]:
        """The last lines of a pod's log."""
        query = {"container": CONTAINER, "tailLines": str(TAIL_LINES)}
        quiet = self._settings.kubernetes_read_timeout_seconds
        content = b""
        async with self._api.stream(f"{PODS}/{pod}/log", query, quiet_seconds=quiet) as chunks:
            while chunk := await chunks.read():
                content = (content + chunk)[-16 * 2**20 :]
        return content.splitlines()

    async def trouble(self) -> str | None:
        """What is wrong, as far as a cheap question shows it."""
        try:
            await self._api.call("GET", JOBS, query={"limit": "1", "resourceVersion": "0"})
        except (ApiError, ExecutorUnavailableError) as error:
            return str(error)
        return None

    def redact(self, text: str) -> str:
        """Blank in what a build says the secrets that builds are given."""
        return self._logins.redaction(text)

    async def aclose(self) -> None:
        """Let go of what logins are asked for at."""
        await self._logins.aclose()

    async def _command(self, attempt: Attempt) -> Command:
        settings = self._settings
        made = environment(attempt, settings, literal=literal)
        # An operator's Secret holds all that a build may have: what the builder itself asks with stays here.
        logins = BuildCredentials() if settings.kubernetes_push_secret else await self._logins.for_image(attempt.image)
        own = logins.engine_config if settings.kubernetes_engine_credentials else ""
        return Command(
            image=settings.builder_image,
            arguments=[PROGRAM, *arguments(attempt, settings, config_path=CONFIG_FILE, literal=literal)],
            environment=made.plain,
            secrets=made.secret,
            config=config_text(attempt, settings) + own,
            logins=logins.config_json if logins.auths else "",
        )

    async def _give_secret(self, job: JobState, command: Command) -> None:
        if job.secret is None:
            return
        try:
            await self._api.call("POST", SECRETS, body=secret_of(job, command, self._settings))
        except ApiError as error:
            if error.status == 403 and QUOTA in error.message:
                raise ExecutorUnavailableError(f"its Secret is refused ({error.message})") from None
            if error.status != 409:
                raise _refusal(error) from None

    async def _raise_epoch(self, job: JobState, epoch: int) -> None:
        """See to it that the Job says the highest epoch that asked for it."""
        while job.epoch < epoch:
            try:
                raw = await self._api.call("GET", f"{JOBS}/{job.name}")
                if (job := JobState.of(raw)).epoch >= epoch:
                    return
                change = {"resourceVersion": raw["metadata"]["resourceVersion"], "annotations": {EPOCH: str(epoch)}}
                job = JobState.of(await self._api.call("PATCH", f"{JOBS}/{job.name}", body={"metadata": change}))
            except ApiError as error:
                if error.status == 404:
                    return
                if error.status != 409:  # else another has changed it in between
                    raise _refusal(error) from None

    async def _list(self, path: str, build_id: str, image_key: str = "") -> Sequence[Json]:
        selector = f"{INSTALLATION}={installation_label(self._settings.installation_id)}"
        if build_id:
            selector += f",{BUILD_ID}={build_id}"
        if image_key:
            selector += f",{IMAGE_KEY}={image_key}"
        found: list[Json] = []
        token = ""
        while True:
            query = {"labelSelector": selector, "limit": _PAGE} | ({"continue": token} if token else {})
            try:
                reply = await self._api.call("GET", path, query=query)
            except ApiError as error:
                raise _refusal(error) from None
            found += reply.get("items") or []
            if not (token := reply["metadata"].get("continue", "")):
                return found

    async def _sticky_node(self, attempt: Attempt) -> str | None:
        """The node that this repository's builds prefer, among those with an engine; None where that can't be said."""
        if not self._settings.kubernetes_sticky_builds:
            return None
        query = {"labelSelector": self._settings.kubernetes_engine_selector}
        try:
            reply = await self._api.call("GET", PODS, query=query)
        except ApiError as error:
            raise _refusal(error) from None
        nodes = {raw["spec"].get("nodeName") for raw in reply.get("items") or []} - {None}
        return preferred_node(attempt.repo_url, sorted(nodes))


def _refusal(error: ApiError) -> Exception:
    """What an answer means that no repetition changes, or only an operator."""
    if error.status in {400, 413, 422}:
        log.error("kubernetes_refuses", status=error.status, error=error.message)
        return BinderyError("internal", "Kubernetes refuses the build's Job.")
    return ExecutorUnavailableError(f"the API server refuses ({error.message})")

"""Jobs and their Secrets: created, claimed, read and deleted, by name or label, at the API server itself."""

import asyncio
import secrets
from collections.abc import Sequence

from services.builder.executors.base import Attempt, ExecutorUnavailableError
from services.builder.executors.build_credentials import BuildCredentials, CredentialsForBuilds
from services.builder.executors.kubernetes.api import JOBS, PODS, SECRETS, Api, ApiError
from services.builder.executors.kubernetes.manifest import (
    CONFIG_FILE,
    Command,
    installation_label,
    job_manifest,
    job_name,
    literal,
    preferred_node,
    secret_manifest,
)
from services.builder.executors.kubernetes.obstacles import QUOTA, Obstacle, quota_obstacle
from services.builder.executors.kubernetes.owner import Owner, UnusableOwnerError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import (
    BUILD_ID,
    EPOCH,
    IMAGE_KEY,
    INSTALLATION,
    JobState,
    Json,
    PodState,
    controller_uid,
)
from services.builder.executors.kubernetes.unreadable import ObjectReader, UnreadableObjectError
from services.builder.executors.repo2docker import PROGRAM, arguments, config_text, environment
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.service.logging import get_logger

log = get_logger(__name__)

_MAX_POLL_SECONDS = 1.0


class Jobs:
    """The Jobs of one installation. Every call may raise `ExecutorUnavailableError`."""

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api = api
        self._settings = settings
        self._credentials = CredentialsForBuilds(settings)
        self._owner = Owner(api, settings)
        self._job_reader = ObjectReader("jobs", JobState.parse)
        self._pod_reader = ObjectReader("pods", PodState.parse)
        self._refusals: dict[str, Obstacle] = {}
        """Why a Job could not be created for the time being, by its name: a full quota, or no owner for it."""
        self._ensured_uids: dict[str, str] = {}
        """The uid of each Job that was ensured and is not followed yet, by its name."""

    async def ensure(self, attempt: Attempt) -> None:
        """Create the Job and its Secret if they are missing. A Job that must wait has a `refusal` afterwards.

        The Job comes first: a worker that dies in between leaves a Job that ends at its deadline and is removed after
        its TTL, and no Secret is ever without an owner. The Job's pod waits for the Secret. Raise `BinderyError`.
        """
        if attempt.credential:
            self._credentials.redaction.learn(attempt.credential.secrets)
        name = job_name(attempt.name)
        try:
            command = await self._command(attempt)
        except ExecutorUnavailableError:
            job = await self.read(name)
            if job is None:
                raise
            await self._claim(job, attempt)  # a Job that exists was given its credentials when it was created
            return

        job = await self._create(name, attempt, command)
        if job is None:
            return
        if not job.is_ended:
            await self._create_secret(job, command)
        await self._claim(job, attempt)

    async def _create(self, name: str, attempt: Attempt, command: Command) -> JobState | None:
        """Create the Job, or return the one that exists; return None for a Job that must wait."""
        node = await self._sticky_node(attempt)
        secret = f"{name}-{secrets.token_hex(4)}"
        try:
            # The run before this one may have vanished because its owner has another uid by now.
            owners = await self._owner.references(is_uid_doubtful=attempt.run > 1)
            manifest = job_manifest(attempt, command, self._settings, secret=secret, node=node, owners=owners)
            job = self._read_job(await self._api.call("POST", JOBS, body=manifest))
            log.info("job_created", job=name, build_id=attempt.build_id)
            return job
        except UnusableOwnerError as error:
            refusal: Obstacle | None = error.obstacle
        except ApiError as error:
            is_over_quota = error.status == 403 and QUOTA in error.message
            refusal = quota_obstacle(error.message, self._settings) if is_over_quota else None
            if error.status != 409 and not refusal:
                raise _error_for(error) from None

        # A full quota refuses a Job that exists already, too.
        existing = await self.read(name)
        if existing:
            return existing
        if not refusal:
            raise ExecutorUnavailableError(f"the Job {name} is just being removed")
        self._refusals[name] = refusal
        self._ensured_uids.pop(name, None)
        return None

    async def _claim(self, job: JobState, attempt: Attempt) -> None:
        """Remember the Job as the attempt's, and raise its epoch."""
        self._refusals.pop(job.name, None)
        self._ensured_uids[job.name] = job.uid
        await self._raise_epoch(job, attempt.epoch)

    def refusal(self, attempt: Attempt) -> Obstacle | None:
        """Return why the attempt's Job could not be created, or None."""
        return self._refusals.get(job_name(attempt.name))

    async def identify(self, attempt: Attempt) -> str:
        """Return the uid of the attempt's Job: the one that `ensure` has just seen; empty if there is no Job."""
        name = job_name(attempt.name)
        uid = self._ensured_uids.pop(name, "")
        if uid:
            return uid
        job = None if name in self._refusals else await self.read(name)
        return job.uid if job else ""

    def forget(self, build_id: str) -> None:
        """Forget the refusals and uids of an attempt's Jobs, of all runs."""
        name = job_name(build_id)
        for by_name in (self._refusals, self._ensured_uids):
            for run in [key for key in by_name if key == name or key.startswith(f"{name}-r")]:
                del by_name[run]

    async def retry(self, attempt: Attempt) -> bool:
        """Try again to create a Job that was refused; return whether it exists now."""
        await self.ensure(attempt)
        return self.refusal(attempt) is None

    async def read(self, name: str) -> JobState | None:
        """Return a Job by its name, or None. Raise `ExecutorUnavailableError` for one that can't be read, too."""
        try:
            return self._read_job(await self._api.call("GET", f"{JOBS}/{name}"))
        except ApiError as error:
            if error.status == 404:
                return None
            raise _error_for(error) from None

    async def list(self, build_id: str = "", *, image_key: str = "") -> Sequence[JobState]:
        """Return this installation's Jobs that can be read: all, or those of one attempt, or of one image."""
        return self._job_reader.read_all(await self._list(JOBS, build_id, image_key))

    async def pods(self, build_id: str) -> Sequence[PodState]:
        """Return the pods of one attempt. Others that have only its labels can't be read, and are left out."""
        return self._pod_reader.read_all(await self._list(PODS, build_id))

    async def pod(self, build_id: str, job_uid: str) -> PodState | None:
        """Return the pod of the Job with this uid, or None.

        Raise `ExecutorUnavailableError` if it can't be read: then nobody knows what became of it.
        """
        try:
            pods = [
                self._pod_reader.read(raw)
                for raw in await self._list(PODS, build_id)
                if controller_uid(only_dict(raw)) == job_uid
            ]
        except UnreadableObjectError as error:
            raise ExecutorUnavailableError(str(error)) from None
        return min(pods, key=lambda pod: pod.created, default=None)

    async def delete(self, name: str, *, uid: str = "") -> None:
        """Delete a Job with its pods and its Secret, unless it is gone; with `uid`, only the Job that has it."""
        body: Json = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._api.call("DELETE", f"{JOBS}/{name}", body=body)
        except ApiError as error:
            is_another = bool(uid) and error.status == 409
            if error.status != 404 and not is_another:
                raise _error_for(error) from None

    async def wait_until_gone(self, build_id: str, seconds: float) -> None:
        """Wait until no pod of an attempt is left. Raise `ExecutorUnavailableError` if one is left after `seconds`."""
        poll_seconds = 0.1
        try:
            async with asyncio.timeout(seconds):
                while await self.pods(build_id):
                    await asyncio.sleep(poll_seconds)
                    poll_seconds = min(_MAX_POLL_SECONDS, 2 * poll_seconds)
        except TimeoutError:
            raise ExecutorUnavailableError(f"a pod of {build_id} is not gone after {seconds:.0f} s") from None

    async def health_problem(self) -> str | None:
        """Return a sentence if the API server does not answer a cheap request, or refuses it."""
        try:
            await self._api.call("GET", JOBS, query={"limit": "1", "resourceVersion": "0"})
        except (ApiError, ExecutorUnavailableError) as error:
            return str(error)
        return None

    def redact(self, text: str) -> str:
        """Return a text without the secrets that builds are given."""
        return self._credentials.redaction(text)

    async def aclose(self) -> None:
        """Close the connections to the sources of credentials."""
        await self._credentials.aclose()

    async def _command(self, attempt: Attempt) -> Command:
        settings = self._settings
        variables = environment(attempt, settings, literal=literal)
        # An operator's Secret has all credentials that a build may have: the builder's own stay here.
        credentials = BuildCredentials()
        if not settings.kubernetes_push_secret:
            credentials = await self._credentials.for_image(attempt.image)
        engine_config = credentials.engine_config if settings.kubernetes_engine_credentials else ""

        return Command(
            image=settings.builder_image,
            arguments=[PROGRAM, *arguments(attempt, settings, config_path=CONFIG_FILE, literal=literal)],
            environment=variables.plain,
            secrets=variables.secret,
            config=config_text(attempt, settings) + engine_config,
            docker_config=credentials.config_json if credentials.auths else "",
        )

    async def _create_secret(self, job: JobState, command: Command) -> None:
        if job.secret is None:
            return
        try:
            await self._api.call("POST", SECRETS, body=secret_manifest(job, command, self._settings))
        except ApiError as error:
            if error.status == 403 and QUOTA in error.message:
                raise ExecutorUnavailableError(f"its Secret is refused ({error.message})") from None
            if error.status != 409:
                raise _error_for(error) from None

    async def _raise_epoch(self, job: JobState, epoch: int) -> None:
        """Store the epoch in the Job, unless the Job has a higher one, or is gone."""
        path = f"{JOBS}/{job.name}"
        while job.epoch < epoch:
            try:
                job = self._read_job(await self._api.call("GET", path))
                if job.epoch >= epoch:
                    return

                metadata = {"resourceVersion": job.version, "annotations": {EPOCH: str(epoch)}}
                job = self._read_job(await self._api.call("PATCH", path, body={"metadata": metadata}))
            except ApiError as error:
                if error.status == 404:
                    return
                if error.status != 409:  # 409: it was changed in between
                    raise _error_for(error) from None

    def _read_job(self, raw: Json) -> JobState:
        """Return a Job. Raise `ExecutorUnavailableError` if it can't be read: that is no news of the Job itself."""
        try:
            return self._job_reader.read(raw)
        except UnreadableObjectError as error:
            raise ExecutorUnavailableError(str(error)) from None

    async def _list(self, path: str, build_id: str, image_key: str = "") -> Sequence[Json]:
        selector = f"{INSTALLATION}={installation_label(self._settings.installation_id)}"
        if build_id:
            selector += f",{BUILD_ID}={build_id}"
        if image_key:
            selector += f",{IMAGE_KEY}={image_key}"

        items: list[Json] = []
        try:
            async for page in self._api.pages(path, {"labelSelector": selector}):
                items += page["items"]
        except ApiError as error:
            raise _error_for(error) from None
        return items

    async def _sticky_node(self, attempt: Attempt) -> str | None:
        """Return the node that this repository's builds prefer, among those with an engine; None without such nodes."""
        if not self._settings.kubernetes_sticky_builds:
            return None
        query = {"labelSelector": self._settings.kubernetes_engine_selector}
        try:
            reply = await self._api.call("GET", PODS, query=query)
        except ApiError as error:
            raise _error_for(error) from None
        nodes = {only_dict(only_dict(raw).get("spec")).get("nodeName") for raw in reply.get("items") or []}
        return preferred_node(attempt.repo_url, sorted(node for node in nodes if isinstance(node, str)))


def _error_for(error: ApiError) -> Exception:
    """Return the error that a refusal means: of the Job itself, which no retry changes, or for the time being."""
    if error.status in {400, 413, 422}:
        log.error("kubernetes_refuses", status=error.status, error=error.message)
        return BinderyError("internal", "Kubernetes refuses the build's Job.")
    return ExecutorUnavailableError(f"the API server refuses ({error.message})")

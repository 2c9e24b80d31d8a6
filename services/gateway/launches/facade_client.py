"""A client of the façade, and the launch that it follows: a new one, its page's, or one that it resumes."""

from dataclasses import dataclass

from services.common.models import Launch, LaunchOptions, Spec
from services.common.models.errors import BinderyError
from services.gateway.launches.launches import Launches


@dataclass(frozen=True, kw_only=True)
class FacadeClient:
    """A client of the façade, which starts, joins or resumes a launch."""

    launches: Launches
    principal: str
    client_ip: str
    launch_host: str

    async def may_follow(self, launch_id: str) -> bool:
        """Return whether the launch exists and this client may see it."""
        try:
            await self.launches.read(launch_id, self.principal)
        except BinderyError as error:
            if not error.has_code("not_found"):
                raise
            return False
        return True

    async def start(self, spec: Spec) -> Launch:
        """Start a launch of the client's own."""
        launch, _is_new = await self._start(spec, self.principal)
        return launch

    async def join_or_start(self, spec: Spec, jti: str) -> Launch:
        """Return the launch that a page's token started, while it is not final; else start a new one."""
        launch, is_new = await self._start(spec, f"anon:{jti}", key=f"jti-{jti}", body_hash=jti)
        return launch if is_new or not launch.state.is_final else await self.start(spec)

    async def _start(self, spec: Spec, principal: str, *, key: str = "", body_hash: str = "") -> tuple[Launch, bool]:
        return await self.launches.start(
            spec,
            principal=principal,
            options=LaunchOptions(),
            client_ip=self.client_ip,
            launch_host=self.launch_host,
            idempotency_key=key,
            body_hash=body_hash,
        )

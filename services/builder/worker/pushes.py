"""The last push of this worker's builds: health shows the operator a registry that refuses images."""

import time

from services.common.models import Build, BuildState
from services.common.service.health import CheckFailure
from services.common.service.redaction import quotable

_SHOWN = "The registry refused the last image; the log of this service says more."
_DETAIL_MAX_CHARS = 300

_REMEDIES = (
    ("response to https", "give it TLS, which it does not speak, or name it in the engine's insecure-registries"),
    ("x509", "let the engine trust its certificate (/etc/docker/certs.d)"),
    ("certificate", "let the engine trust its certificate (/etc/docker/certs.d)"),
    ("quota", "make room in it, or raise the quota there"),
)
_OTHER_REMEDY = "see that the login in BINDERY_DOCKER_CONFIG may push under BINDERY_IMAGE_PREFIX"


class Pushes:
    """Whether the last build that came so far could push its image; a refusal counts for `shown_seconds` at most."""

    def __init__(self, *, shown_seconds: float) -> None:
        self._shown_seconds = shown_seconds
        self._refused_at = 0.0
        self._problem = ""

    def note(self, build: Build) -> None:
        """Take in how a build has ended."""
        if build.state is BuildState.BUILT:
            self._problem = ""
        elif build.error and build.error.has_code("push_denied"):
            self._refused_at = time.monotonic()
            self._problem = _sentence(build.error.detail)

    async def health_problem(self) -> CheckFailure | None:
        """Return the last refusal, unless an image was pushed since, or it is too long ago."""
        if not self._problem or time.monotonic() - self._refused_at > self._shown_seconds:
            return None
        return CheckFailure(self._problem, _SHOWN)


def _sentence(detail: str) -> str:
    lower = detail.lower()
    remedy = next((remedy for mark, remedy in _REMEDIES if mark in lower), _OTHER_REMEDY)
    return f"{quotable(detail, _DETAIL_MAX_CHARS).rstrip('.')}. To mend it, {remedy}."

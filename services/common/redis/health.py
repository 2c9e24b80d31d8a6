"""What is wrong with Redis, as a sentence for the operator that says what to do."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError

from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.rights import MissingRight, Refusals
from services.common.redis.url import SENTINEL_SCHEMES, parse_sentinel_url, scheme_of
from services.common.service.health import CheckFailure
from services.common.service.redaction import quotable
from services.common.service.settings import ServiceSettings

_SEE = "see docs/redis.md"


async def redis_failure(redis: Redis, refusals: Refusals, settings: ServiceSettings) -> CheckFailure | None:
    """Check Redis for the health page: whether it answers, lets everybody in, or denied a right lately."""
    try:
        await redis.ping()
    except (*REDIS_UNAVAILABLE, ResponseError) as error:
        return CheckFailure(problem_sentence(error, address_of(settings)) or f"{type(error).__name__}: {error}")
    return refusals.health_problem() or open_to_all(redis, settings)


def problem_sentence(error: Exception, address: str) -> str:
    """Return why Redis at `address` can't be used, and what to do; nothing for another kind of error."""
    redis = f"Redis at {address}"
    if isinstance(error.__cause__, AuthenticationError | ResponseError):  # of the login, wrapped by redis-py
        error = error.__cause__
    text = str(error)
    if isinstance(error, AuthenticationError) or text.startswith(("DENIED", "NOAUTH")):
        return _login_problem(text, redis)
    if isinstance(error, MissingRight):
        return text
    if isinstance(error, REDIS_UNAVAILABLE):
        why = quotable(text or type(error).__name__).rstrip(".")
        return f"{redis} does not answer ({why}): start it, or name it in BINDERY_REDIS_URL."
    return ""


def _login_problem(text: str, redis: str) -> str:
    if "without any password configured" in text or text.startswith("DENIED"):
        return (
            f"{redis} has no users and no password: give it its file of users (`python -m deploy.redis`), and write "
            f"this service's user and password into BINDERY_REDIS_URL; {_SEE}."
        )
    if "Authentication required" in text or text.startswith("NOAUTH"):
        return (
            f"{redis} asks for a password, and BINDERY_REDIS_URL has none: write this service's user and password "
            f"there (redis://user:password@host:port/0); {_SEE}."
        )
    return (
        f"{redis} refuses the user or the password in BINDERY_REDIS_URL: write those of Redis' file of users there, "
        f"or mend the file and run ACL LOAD; {_SEE}."
    )


def open_to_all(redis: Redis, settings: ServiceSettings) -> CheckFailure | None:
    """Return the failure of a Redis on another host that has let this process in without a password.

    Behind Sentinels it counts as on another host if one of them is.
    """
    options = redis.connection_pool.connection_kwargs
    hosts = {str(options.get("host") or "")}
    url = settings.redis_url.get_secret_value()
    if scheme_of(url) in SENTINEL_SCHEMES:
        hosts = {sentinel.host for sentinel in parse_sentinel_url(url).sentinels}
    is_own_host = all(host in {"", "localhost", "::1"} or host.startswith("127.") for host in hosts)
    has_login = options.get("password") or options.get("credential_provider") or options.get("ssl_certfile")
    if not settings.redis_password_required or has_login or is_own_host:
        return None
    return CheckFailure(
        f"Redis at {address_of(settings)} asks for no password, so whoever reaches it may read and change all "
        "launches: give it its file of users (`python -m deploy.redis`), and write this service's user and password "
        f"into BINDERY_REDIS_URL; {_SEE}. BINDERY_REDIS_PASSWORD_REQUIRED=false accepts it as it is.",
        "Redis is open to everybody who reaches it; the log of this service says more.",
    )


def address_of(settings: ServiceSettings) -> str:
    """Return where `BINDERY_REDIS_URL` leads, without user, password and options, any of which may be secret."""
    parts = urlsplit(settings.redis_url.get_secret_value())
    return parts.netloc.rpartition("@")[2] + parts.path or "its default address"

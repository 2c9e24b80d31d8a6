"""The hub's answer while its database is away: 503. JupyterHub's own is 403, as for a token that it does not know."""

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from sqlalchemy.exc import SQLAlchemyError
from tornado.web import HTTPError

_handler: Any = BaseHandler
_prepare = _handler.prepare


def answer_unavailable() -> None:
    """Make every request that can't be told from a stranger's, for want of the database, fail with 503."""
    _handler.prepare = _prepare_with_database


async def _prepare_with_database(request: Any) -> None:
    try:
        await request.get_current_user()  # which keeps its answer for the handler
    except SQLAlchemyError as error:
        # The page of the error asks for these.
        request._jupyterhub_user = None
        request.expanded_scopes, request.parsed_scopes = set(), {}
        request.db.rollback()
        raise HTTPError(503, "The hub's database does not answer") from error
    except Exception:  # such as one of an authenticator's: JupyterHub goes on, for a stranger
        request._jupyterhub_user = None
        request.log.exception("Failed to get current user")
    await _prepare(request)

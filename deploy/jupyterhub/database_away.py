"""The hub's answer while its database is away: 503. JupyterHub's own is 403, as for a token that it does not know."""

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from sqlalchemy.exc import SQLAlchemyError
from tornado.web import HTTPError


def answer_unavailable() -> None:
    """Make every request that can't be told from a stranger's, for want of the database, fail with 503."""
    handler: Any = BaseHandler
    prepare = handler.prepare

    async def prepare_with_database(request: Any) -> None:
        try:
            await request.get_current_user()  # which keeps its answer for the handler
        except SQLAlchemyError as error:
            request._jupyterhub_user = None  # the page of the error asks for it
            request.db.rollback()
            raise HTTPError(503, "The hub's database does not answer") from error
        await prepare(request)

    handler.prepare = prepare_with_database

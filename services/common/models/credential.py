"""`GitCredential`: the login for one repository that comes with a request."""

from pydantic import Field, SecretStr

from services.common.models.base import Contract
from services.common.models.spec import Spec


class GitCredential(Contract):
    """A login that can read one private repository: a token, with the user name that its forge wants beside it."""

    username: str = Field(
        "", max_length=256, description="User of the password or token; empty: the forge needs none with a token."
    )
    password: SecretStr = Field(min_length=1, max_length=4096, description="A password, or a token in its place.")


class ResolveRequest(Spec):
    """A link to resolve, and what reads its repository if that is private."""

    credential: GitCredential | None = Field(
        None, description="What reads a private repository: used for this request alone, and never shown."
    )

    def reveal(self) -> dict[str, object]:
        """Return the body with the login in clear, for the one call that has to have it."""
        body: dict[str, object] = {"provider": self.provider, "spec": self.spec}
        if login := self.credential:
            body["credential"] = {"username": login.username, "password": login.password.get_secret_value()}
        return body

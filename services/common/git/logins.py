"""The user names that forges want beside a token, where git asks for both."""

from services.common.models import GitCredential
from services.common.net.credential import ScopedCredential

ANY_USER = "x-access-token"
"""GitHub, GitLab and Gitea accept any name beside a token, and GitHub recommends this one."""
BITBUCKET_TOKEN_USER = "x-token-auth"  # noqa: S105 - a name
"""Beside a token of a repository or workspace. Source: support.atlassian.com, "Repository access tokens"."""
BITBUCKET_API_USER = "x-bitbucket-api-token-auth"
"""Beside a user's API token, which has the user's mail address beside it in Bitbucket's API."""


def scoped_login(login: GitCredential, url: str, *, provider: str) -> ScopedCredential:
    """Return the credential that a login is for the repository at `url`, a link of `provider`, and for nothing else."""
    username = login.username or ANY_USER
    if provider == "bb":
        username = BITBUCKET_API_USER if "@" in login.username else login.username or BITBUCKET_TOKEN_USER
    return ScopedCredential(scope=url, username=username, password=login.password.get_secret_value())

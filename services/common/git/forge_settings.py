"""Settings of the forges whose repositories are launched, and the operator's credentials for their git servers.

The resolver asks their APIs with these tokens; the workers of the builder fetch private repositories with them.
"""

import hashlib
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from services.common.git.host_settings import Host, HostSettings, Prefix
from services.common.git.logins import ANY_USER, BITBUCKET_API_USER, BITBUCKET_TOKEN_USER
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.settings import OutboundSettings


class ForgeSettings(OutboundSettings):
    """Where forges are, and the operator's tokens for them."""

    github_url: str = Field("https://github.com", description="GitHub, or a GitHub Enterprise server.")
    github_access_token: SecretStr = Field(
        SecretStr(""),
        description="Token for GitHub's API, which answers 5,000 requests an hour with one and 60 without. What it may "
        "read can be launched: [more](operators.md#private-repositories).",
    )
    gist_url: str = Field(
        "https://gist.github.com",
        description="Where the gists of that GitHub are. Those of a GitHub Enterprise server are launched only if this "
        "names them.",
    )
    gitlabs: dict[Prefix, HostSettings] = Field(
        {"gl": HostSettings(url="https://gitlab.com")},
        description="Each GitLab by the prefix of its links, with its `url` and, if it has any, its `token`s, which "
        "commas separate: [more](operators.md#forges-of-your-own).",
    )
    giteas: dict[Host, HostSettings] = Field(
        {"codeberg.org": HostSettings(url="https://codeberg.org")},
        description="Each Gitea or Forgejo by its name in links, with its `url` and `token`s: "
        "[more](operators.md#forges-of-your-own).",
    )
    bitbucket_url: str = Field("https://bitbucket.org", description="Bitbucket Cloud.")
    bitbucket_token: SecretStr = Field(
        SecretStr(""),
        description="Token for Bitbucket's API, which answers 1,000 requests an hour with one and 60 without: of a "
        "workspace, of a repository, or of `bitbucket_user`.",
    )
    bitbucket_user: str = Field("", description="Mail address of the user whose API token that is; empty: of none.")
    git_credentials: SecretStr = Field(
        SecretStr(""),
        description="JSON: by host, the output of git's credential helper for it, username=...\\npassword=..., for "
        "repositories whose forge has no token above.",
    )

    @field_validator("github_url", "gist_url", "bitbucket_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @property
    def credentials_id(self) -> str:
        """12 hex digits that differ whenever a credential does: what is cached is cached for one of these."""
        tokens = [host.token for host in (*self.gitlabs.values(), *self.giteas.values())]
        settings = [self.git_credentials, self.github_access_token, self.bitbucket_token, *tokens]
        return hashlib.sha256("\0".join(each.get_secret_value() for each in settings).encode()).hexdigest()[:12]

    def credential_for(self, url: str) -> ScopedCredential | None:
        """Return the operator's credential for the git repository at `url`; None without one.

        Raise `BinderyError("internal")` if `git_credentials` can't be read.
        """
        return next((credential for credential in self._credentials(url) if credential.covers(url)), None)

    def _credentials(self, url: str) -> Iterator[ScopedCredential]:
        parts = urlsplit(url)
        if text := git_credentials(self).get(parts.netloc.lower()):
            entries = dict(line.partition("=")[::2] for line in text.replace("\\n", "\n").splitlines())
            username, password = entries.get("username", ANY_USER), entries.get("password", "")
            yield ScopedCredential(scope=f"{parts.scheme}://{parts.netloc}", username=username, password=password)

        forges = [(self.github_url, self.github_access_token), (self.gist_url, self.github_access_token)]
        forges += [(host.url, host.token) for host in (*self.gitlabs.values(), *self.giteas.values())]
        for scope, setting in forges:
            for token in token_list(setting)[:1]:
                yield ScopedCredential(scope=scope, username=ANY_USER, password=token)
        if token := self.bitbucket_token.get_secret_value():
            username = BITBUCKET_API_USER if self.bitbucket_user else BITBUCKET_TOKEN_USER
            yield ScopedCredential(scope=self.bitbucket_url, username=username, password=token)


def git_credentials(settings: ForgeSettings) -> dict[str, str]:
    """Return `git_credentials` by host, in lower case. Raise `BinderyError("internal")` if it is no JSON object."""
    text = settings.git_credentials.get_secret_value()
    try:
        credentials = json.loads(text or "{}")
        return {str(host).lower(): str(credential) for host, credential in credentials.items()}
    except (ValueError, AttributeError):
        raise BinderyError("internal", "BINDERY_GIT_CREDENTIALS is not a JSON object.") from None


def token_list(setting: SecretStr) -> list[str]:
    """Return the tokens of a setting, in which commas or blanks separate them."""
    return setting.get_secret_value().replace(",", " ").split()

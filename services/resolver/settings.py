"""The resolver's settings."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from services.common.git.forge_settings import ForgeSettings
from services.resolver.archive_settings import ArchiveSettings


class RepoConfig(BaseModel):
    """Configuration of the launches of some repositories.

    For a value that it leaves out, an earlier matching configuration counts, or else the launcher's settings. Other
    keys are an operator's own, and are kept, as BinderHub keeps them.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    quota: int | None = Field(None, ge=-1, description="Servers of such a repository at once; 0 (or -1): no limit.")
    resource_class: str | None = Field(None, min_length=1, max_length=64)
    resource_classes: list[str] | None = Field(
        None, description="Classes that such a repository may ask for itself, in its binder/bindery.yaml."
    )


class SpecConfig(BaseModel):
    """The configuration of repositories whose spec matches a regular expression from its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    config: RepoConfig

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return pattern


class ResolverSettings(ArchiveSettings, ForgeSettings):
    """Settings of the resolver, on top of those of every service."""

    resolve_timeout_seconds: float = Field(60.0, gt=0, description="Longest time that resolving one link may take.")
    resolve_share_seconds: float = Field(
        5.0,
        ge=0,
        description="How long a link is left to another replica that resolves it at the moment, before this one asks, "
        "too. 0: each replica asks by itself.",
    )
    providers: str = Field(
        "",
        description="Prefixes of the providers that there are, comma-separated, in the order of the form; empty: all.",
    )
    banned_specs: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Regular expressions by provider prefix, or `*` for all: a link that one of them matches from "
        "its start is refused.",
    )
    allowed_specs: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Regular expressions by provider prefix, or `*` for all: if any are set, one must match the link.",
    )
    spec_config: dict[str, list[SpecConfig]] = Field(
        default_factory=dict,
        description="By provider prefix, or `*` for all, a list of `pattern` (a regular expression) and `config`: "
        "the `quota` and `resource_class` of links that the pattern matches from its start. The last "
        "one that sets a value counts.",
    )
    high_quota_specs: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Regular expressions by provider prefix, or `*` for all: the quota of a link that one of them "
        "matches from its start is `per_repo_quota_higher`.",
    )
    per_repo_quota_higher: int = Field(
        0, ge=-1, description="Servers at once of a repository in `high_quota_specs`; 0 (or -1): no limit."
    )
    operator_token: SecretStr = Field(
        SecretStr(""),
        description="Token (Bindery-Operator-Token) that may see and change the "
        "[live policy](operators.md#the-live-policy); empty: nobody may. The builder's has to be the same.",
    )
    policy_dir: Path | None = Field(
        None,
        description="Folder in which the resolver keeps the last live policy, for a Redis that was emptied; none: the "
        "policy is in Redis alone.",
    )
    policy_rules_max: int = Field(1000, ge=1, description="How many live rules there may be.")
    policy_audit_max: int = Field(1000, ge=1, description="How many changes of the live policy are remembered.")
    policy_reread_seconds: float = Field(
        30.0, gt=0, description="How often a resolver reads the live policy again, of whose change it is told at once."
    )
    check_commits: bool = Field(
        False,
        description="Whether a forge is asked of each commit that a link names by its hash whether the repository has "
        "it in a branch or tag. It is asked anyway if an allowance, a quota or a class depends on the repository's "
        "name: [why](operators.md#whose-commit-it-is).",
    )
    not_found_cache_seconds: float = Field(
        30.0, ge=0, description="How long a missing repository or ref is remembered."
    )
    stale_answer_seconds: float = Field(
        3600.0,
        ge=0,
        description="How long the commit that a link meant is used, with a notice, while its forge can't be asked.",
    )

    forge_timeout_seconds: float = Field(10.0, gt=0, description="Longest time that a forge's API may take to answer.")
    forge_failures_max: int = Field(
        5, ge=1, description="After so many requests in a row without an answer, a forge is not asked for a while."
    )
    forge_pause_seconds: float = Field(10.0, ge=0, description="How long a forge is not asked then.")

    git_timeout_seconds: float = Field(30.0, gt=0, description="Longest time that a git server may take for its refs.")
    git_listing_max_bytes: int = Field(4 * 2**20, ge=1, description="Longest list of refs that a git server may send.")
    git_processes_max: int = Field(
        4,
        ge=1,
        description="How many processes of git may list refs at once: only servers of old protocols are left to them.",
    )

    github_api_url: str = Field("https://api.github.com", description="Address of GitHub's REST API.")
    github_client_id: str = Field("", description="Id of an OAuth app, whose higher limit is used with its secret.")
    github_client_secret: SecretStr = Field(SecretStr(""), description="Secret of that OAuth app.")

    gist_versions_max: int = Field(
        1000,
        ge=0,
        description="How many versions of a gist are looked through for the one that a link names, 100 with a request.",
    )
    allow_secret_gist: bool = Field(
        False,
        description="Whether gists are launched that are in no list: those that only who knows the link can read.",
    )

    bitbucket_api_url: str = Field("https://api.bitbucket.org/2.0", description="Address of Bitbucket's REST API.")

    @field_validator("github_api_url", "bitbucket_api_url")
    @classmethod
    def _api_without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @property
    def provider_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the providers that there are; none: all."""
        return tuple(part.strip() for part in self.providers.split(",") if part.strip())

    @property
    def git_protocols(self) -> frozenset[str]:
        """Protocols of git URLs that are allowed."""
        return frozenset(part.strip() for part in self.git_allowed_protocols.split(",") if part.strip())

"""The policy: rules about what may be launched here, and how; kept by the resolver, changed by operators."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from services.common.models.base import Contract
from services.common.models.repo import ResolvedRepo
from services.common.models.spec import Spec

REASON_MAX_LENGTH = 500


class RuleKind(StrEnum):
    """What a rule does with the links that it matches; each is one of BinderHub's settings."""

    BAN = "ban"
    """Nobody may launch them (`banned_specs`)."""
    ALLOW = "allow"
    """They may be launched; of the providers that have such rules, others may not (`allowed_specs`)."""
    HIGH_QUOTA = "high_quota"
    """Their quota is `per_repo_quota_higher` (`high_quota_specs`)."""
    CONFIG = "config"
    """Their launches have a configuration (`spec_config`); of several, the last one that has a key counts."""


class NewRule(Contract):
    """The body of a request to add a rule: it holds for the links that `pattern` matches from their start."""

    kind: RuleKind
    provider: str = Field("*", min_length=1, max_length=64, description="Prefix of the links, or `*` for all.")
    pattern: str = Field(
        max_length=4096,
        description="Regular expression that links without their prefix match from their start, in either case.",
        examples=["spammer/.*"],
    )
    reason: str = Field("", max_length=REASON_MAX_LENGTH, description="Why: a person whom a ban refuses reads it.")
    config: dict[str, Any] = Field(
        {}, description="Of kind `config`: `quota`, `resource_class`, and keys of your own, which hooks may read."
    )
    expires_at: float | None = Field(None, description="Unix time from which the rule no longer holds; null: never.")
    end_servers: bool = Field(False, description="Of kind `ban`: whether running servers of the repository are ended.")
    by: str = Field("", max_length=200, description="Who adds it, for the audit log.")


class PolicyRule(Contract):
    """One rule. `id` follows from kind, provider and pattern; `origin` is empty for a live rule, or `settings`."""

    id: str
    kind: RuleKind
    provider: str
    pattern: str
    reason: str = ""
    config: dict[str, Any] = Field({})
    expires_at: float | None = None
    end_servers: bool = False
    created_by: str = ""
    created_at: float = 0.0
    origin: str = ""


class PolicyDocument(Contract):
    """The live rules, in the order in which they were added. Each change has the next `version`."""

    v: Literal[1] = 1
    version: int = Field(0, ge=0)
    changed_at: float = 0.0
    rules: tuple[PolicyRule, ...] = ()


class PolicyView(Contract):
    """The policy as operators see it: the rules of the settings come before the live ones."""

    version: int
    rules: tuple[PolicyRule, ...]


class AuditEntry(Contract):
    """One change of the live policy: what was done (`action` is added, replaced or removed), by whom, when and why."""

    version: int
    action: str
    rule: PolicyRule
    by: str
    at: float
    reason: str = ""


class LinkToCheck(Contract):
    """A link, and the repository that it meant when it was resolved; null if it was not."""

    spec: Spec
    repo: ResolvedRepo | None = None


class RunningServer(Contract):
    """A server that runs or starts, and the link that it was launched by."""

    server_id: str
    link: LinkToCheck


class PolicyQuestion(Contract):
    """Which of some links are refused, by a policy of at least this version."""

    version: int = 0
    links: tuple[LinkToCheck, ...] = Field(max_length=1000)


class Verdict(Contract):
    """What the policy says of a link: `refusal` is the sentence for the person who launches it; empty if it may be.

    `rule` is the one that refuses it; null if no allowance matches, which no single rule decides. `matches` are all
    rules that match the link. `ends_servers`: whether a ban among them ends running servers, too.
    """

    refusal: str = ""
    rule: PolicyRule | None = None
    matches: tuple[PolicyRule, ...] = ()
    ends_servers: bool = False


class Verdicts(Contract):
    """The answer to a `PolicyQuestion`, in the order of its links, and the version of the policy that gave it.

    `ends_servers`: whether there is a ban that ends running servers.
    """

    version: int
    ends_servers: bool = False
    verdicts: tuple[Verdict, ...]

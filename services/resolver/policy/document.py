"""The document of live rules: its text in Redis and on disk, and its changes."""

import hashlib
import re
from dataclasses import dataclass

from pydantic import ValidationError

from services.common.models.base import faults_of
from services.common.models.errors import BinderyError
from services.common.models.policy import AuditEntry, NewRule, PolicyDocument, PolicyRule, RuleKind
from services.common.service.clock import clock
from services.resolver.policy.patterns import check_pattern, compiled
from services.resolver.settings import RepoConfig

_TEXT = re.compile(r"(?P<version>[1-9][0-9]{0,14}) (?P<json>.*)", re.DOTALL)

RULE_MAX_LENGTH = 10_000
"""Characters of a rule as JSON: all rules are kept in one text."""
EMPTY = PolicyDocument()
"""What there is before the first change."""


class Unreadable(Exception):
    """A text that is not a policy of this release: it is damaged, or a newer release has written it."""


@dataclass(frozen=True)
class Change:
    """A document with one change more than another, and the entry of the audit log."""

    document: PolicyDocument
    entry: AuditEntry


def text_of(document: PolicyDocument) -> str:
    """Return a document as text. Its version comes first, where scripts in Redis read it."""
    return f"{document.version} {document.model_dump_json()}"


def parse(text: str) -> PolicyDocument:
    """Return the document of a text. Raise `Unreadable`: with a rule left out, the policy would be wider."""
    match = _TEXT.fullmatch(text)
    if not match:
        raise Unreadable("it does not begin with a version")
    try:
        document = PolicyDocument.model_validate_json(match["json"])
        for rule in document.rules:
            compiled(rule.pattern)
            RepoConfig.model_validate(rule.config)
    except ValidationError as error:
        raise Unreadable(faults_of(error)) from None
    except (re.error, OverflowError, RecursionError) as error:
        raise Unreadable(f"a pattern is not a regular expression: {error}") from None
    if document.version != int(match["version"]):
        raise Unreadable("it has two versions")
    return document


def with_rule(document: PolicyDocument, new: NewRule, *, rules_max: int) -> Change | None:
    """Add a rule, or replace the one of the same kind, provider and pattern; None if that one says the same.

    Raise `BinderyError("bad_request")`, with a sentence, for a rule that can't hold.
    """
    _check(new)
    rule = PolicyRule(
        id=rule_id(new.kind, new.provider, new.pattern),
        created_by=new.by,
        created_at=clock.now(),
        **new.model_dump(exclude={"by"}),
    )
    others = tuple(other for other in document.rules if other.id != rule.id)
    earlier = rule_of(document, rule.id)
    if earlier and earlier.model_dump(exclude={"created_by", "created_at"}) == rule.model_dump(
        exclude={"created_by", "created_at"}
    ):
        return None
    if len(others) >= rules_max:
        raise BinderyError("bad_request", f"There are {len(others)} rules, and no more are kept: remove some.")
    return _changed(
        document, (*others, rule), rule, action="replaced" if earlier else "added", by=new.by, reason=new.reason
    )


def without_rule(document: PolicyDocument, rule_id: str, *, by: str, reason: str) -> Change:
    """Remove a rule. Raise `BinderyError("not_found")`."""
    rule = rule_of(document, rule_id)
    if rule is None:
        raise BinderyError("not_found", f"There is no live rule {rule_id!r}.")
    others = tuple(other for other in document.rules if other.id != rule_id)
    return _changed(document, others, rule, action="removed", by=by, reason=reason)


def with_later_rules(document: PolicyDocument, replaced: PolicyDocument) -> PolicyDocument | None:
    """Return a document with the rules of the one that it replaces that are later than itself; None without any.

    They were added after Redis was emptied, by a resolver that knew of no policy, before the newest one was back.
    """
    later = tuple(rule for rule in replaced.rules if rule.created_at > document.changed_at)
    if not later:
        return None
    ids = {rule.id for rule in later}
    others = tuple(rule for rule in document.rules if rule.id not in ids)
    return PolicyDocument(version=document.version + 1, changed_at=replaced.changed_at, rules=(*others, *later))


def rule_of(document: PolicyDocument, rule_id: str) -> PolicyRule | None:
    """Return a rule by its id; None if there is none."""
    return next((rule for rule in document.rules if rule.id == rule_id), None)


def rule_id(kind: RuleKind, provider: str, pattern: str) -> str:
    """Return the id that the rule of a kind about such links has, whoever adds it: adding it twice is adding it."""
    return hashlib.sha256(f"{kind}\0{provider}\0{pattern}".encode()).hexdigest()[:12]


def _changed(
    document: PolicyDocument, rules: tuple[PolicyRule, ...], rule: PolicyRule, *, action: str, by: str, reason: str
) -> Change:
    version = document.version + 1
    entry = AuditEntry(version=version, action=action, rule=rule, by=by, at=clock.now(), reason=reason)
    return Change(PolicyDocument(version=version, changed_at=entry.at, rules=rules), entry)


def _check(new: NewRule) -> None:
    """Raise `BinderyError("bad_request")` for a rule that makes no sense."""
    check_pattern(new.pattern)
    if not new.reason.isprintable():
        raise BinderyError("bad_request", "The reason must be one line of text.")
    if new.expires_at is not None and new.expires_at <= clock.now():
        raise BinderyError("bad_request", "The rule would have expired already.")
    if new.end_servers and new.kind is not RuleKind.BAN:
        raise BinderyError("bad_request", "Only a ban ends servers.")
    if len(new.model_dump_json()) > RULE_MAX_LENGTH:
        raise BinderyError("bad_request", f"The rule is longer than {RULE_MAX_LENGTH} characters.")
    if bool(new.config) is not (new.kind is RuleKind.CONFIG):
        raise BinderyError("bad_request", "A rule of kind config, and no other, has a config.")
    try:
        RepoConfig.model_validate(new.config)
    except ValidationError as error:
        raise BinderyError("bad_request", f"The config can't hold: {faults_of(error)}.") from None

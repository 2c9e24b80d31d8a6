"""The policy of a gateway, for its operator: which links are banned or allowed, and who said so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bindery.client import OPERATOR_HEADER, Client, GatewayError, optional_header

_URL = "/api/v1/admin/policy"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. Times are Unix seconds; `origin` is `settings` for one that can't be changed live."""

    id: str
    kind: str
    provider: str
    pattern: str
    reason: str = ""
    config: Mapping[str, Any]
    expires_at: float | None = None
    end_servers: bool = False
    created_by: str = ""
    created_at: float = 0.0
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One entry of the audit log: `action` is added, replaced or removed."""

    version: int
    action: str
    rule: Rule
    by: str
    at: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the policy says of a link: `refusal` is empty if it may be launched; `rule` is the one that refuses it."""

    refusal: str
    rule: Rule | None
    matches: tuple[Rule, ...]


class Policy:
    """The policy of the gateway that `client` asks, with its operator's token. All methods raise `GatewayError`."""

    def __init__(self, client: Client, operator_token: str) -> None:
        self._client = client
        self._headers = optional_header(OPERATOR_HEADER, operator_token)

    def rules(self) -> tuple[Rule, ...]:
        """Return all rules in the order in which they count: those of the settings, then the live ones."""
        return tuple(_rule(each) for each in self._ask("GET", "")["rules"])

    def add(self, kind: str, provider: str, pattern: str, **fields: object) -> Rule:
        """Add a live rule, or replace the one of this kind about these links; `fields` are those of the API."""
        body = {"kind": kind, "provider": provider, "pattern": pattern, **fields}
        return _rule(self._ask("POST", "/rules", json=body))

    def remove(self, rule_id: str, *, by: str, reason: str = "") -> None:
        """Remove a live rule."""
        params = {"by": by, "reason": reason}
        self._client.request("DELETE", f"{_URL}/rules/{rule_id}", params=params, headers=self._headers)

    def explain(self, provider: str, spec: str) -> Verdict:
        """Return which rules match a link, and which of them refuses it."""
        content = self._ask("POST", "/explain", json={"provider": provider, "spec": spec})
        rule = content["rule"]
        matches = tuple(_rule(each) for each in content["matches"])
        return Verdict(refusal=str(content["refusal"]), rule=_rule(rule) if rule else None, matches=matches)

    def audit(self, limit: int) -> list[Change]:
        """Return the last changes, newest first."""
        return [
            Change(
                version=int(each["version"]),
                action=str(each["action"]),
                rule=_rule(each["rule"]),
                by=str(each["by"]),
                at=float(each["at"]),
                reason=str(each["reason"]),
            )
            for each in self._ask("GET", "/audit", params={"limit": limit})
        ]

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        response = self._client.request(method, f"{_URL}{path}", headers=self._headers, **options)
        try:
            return response.json()
        except ValueError as error:
            raise GatewayError("The gateway answered something that is not a policy: is it a Bindery?") from error


def _rule(content: Mapping[str, Any]) -> Rule:
    return Rule(**{name: content[name] for name in Rule.__dataclass_fields__ if name in content})

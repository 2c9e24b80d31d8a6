"""The live policy of resolvers on a real Redis: operators change it, and the next launch is under it."""

import asyncio
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.common.models.policy import AuditEntry, PolicyRule, PolicyView, Verdict, Verdicts
from services.common.service.clock import clock
from services.resolver.policy.live import LivePolicy
from tests.support.forge import Fault, Forge
from tests.support.forge_pages import Page
from tests.support.in_process_resolver import ResolverClient, replicas
from tests.support.polling import until

TOKEN = "the operator's token"
OPERATOR = {"Bindery-Operator-Token": TOKEN}
SETTINGS: dict[str, object] = {"operator_token": TOKEN, "heartbeat_seconds": 0.2}
REASON = "It mines coins."


async def add(resolver: ResolverClient, kind: str, pattern: str, **fields: Any) -> httpx.Response:
    body = {"kind": kind, "provider": "gh", "pattern": pattern} | fields
    return await resolver.client.post("/policy/rules", json=body, headers=OPERATOR)


async def ban(resolver: ResolverClient, pattern: str, **fields: Any) -> PolicyRule:
    reply = await add(resolver, "ban", pattern, reason=REASON, **fields)
    assert reply.status_code == 201, reply.text
    return PolicyRule.model_validate_json(reply.content)


async def view_of(resolver: ResolverClient) -> PolicyView:
    reply = await resolver.client.get("/policy", headers=OPERATOR)
    return PolicyView.model_validate_json(reply.content)


async def never() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def without_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolvers are told of no change, as if each message was lost."""
    monkeypatch.setattr(LivePolicy, "run", lambda _policy: never())


async def test_a_ban_holds_at_every_resolver_and_its_reason_is_told(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, SETTINGS, SETTINGS) as (one, two):
        rule = await ban(one, "ORG/repo/.*", by="ann")
        for resolver in (one, two):
            problem = await resolver.problem("gh", f"org/repo/{sha}")
            assert problem.code == "banned"
            assert problem.detail.endswith(f"is not allowed to launch here. {REASON}")

        assert (await one.client.delete(f"/policy/rules/{rule.id}", headers=OPERATOR)).status_code == 204

        async def may_launch() -> bool:
            return (await two.post("gh", f"org/repo/{sha}")).status_code == 200

        await until(may_launch, "the other resolver is told")


@pytest.mark.usefixtures("without_messages")
async def test_a_resolver_that_was_not_told_of_a_ban_refuses_the_next_launch_all_the_same(
    forge: Forge, redis: Redis
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, SETTINGS, SETTINGS) as (one, two):
        await two.repo("gh", f"org/repo/{sha}")  # its answer is known from now on
        await ban(one, "org/")
        assert (await two.problem("gh", f"org/repo/{sha}")).code == "banned"


async def test_a_ban_withdraws_what_gateways_know_of_a_link(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, SETTINGS) as (resolver,):
        await resolver.repo("gh", f"org/repo/{sha}")
        (fact,) = await redis.keys("*fact:repo*")
        under, _, _ = (await redis.get(fact)).partition(b" ")
        assert under == await redis.get("bindery:default:policy:resolver")
        await ban(resolver, "other/")
        assert under != await redis.get("bindery:default:policy:resolver")


async def test_a_link_that_is_being_resolved_when_it_is_banned_is_refused(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.api_fault = Fault.holding()
    async with replicas(forge, redis, SETTINGS) as (resolver,):
        launch = asyncio.create_task(resolver.problem("gh", "org/repo/main"))
        await until(lambda: bool(forge.api_requests), "a request")
        await ban(resolver, "org/")
        forge.api_fault.release()
        assert (await launch).code == "banned"


async def test_a_rule_expires(forge: Forge, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, SETTINGS) as (resolver,):
        await ban(resolver, "org/", expires_at=clock.now() + 3600)
        assert (await resolver.problem("gh", f"org/repo/{sha}")).code == "banned"
        before = await redis.get("bindery:default:policy:resolver")
        now = clock.now() + 3601
        monkeypatch.setattr(clock, "now", lambda: now)
        assert (await resolver.repo("gh", f"org/repo/{sha}")).ref == sha
        assert await redis.get("bindery:default:policy:resolver") != before


async def test_only_the_operator_sees_and_changes_it(forge: Forge, redis: Redis) -> None:
    requests = [("GET", "/policy"), ("GET", "/policy/audit"), ("DELETE", "/policy/rules/abc")]
    requests += [("POST", "/policy/rules"), ("POST", "/policy/explain")]
    bodies: dict[str, Any] = {
        "/policy/rules": {"kind": "ban", "pattern": "a"},
        "/policy/explain": {"provider": "gh", "spec": "a/b/c"},
    }
    async with replicas(forge, redis, SETTINGS, {}) as (resolver, without_token):
        for method, path in requests:
            for client, token in ((resolver, ""), (resolver, "wrong"), (without_token, TOKEN)):
                headers = {"Bindery-Operator-Token": token} if token else {}
                reply = await client.client.request(method, path, headers=headers, json=bodies.get(path))
                assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), (method, path)
    assert await redis.get("bindery:default:policy:live") is None


async def test_a_rule_is_added_once_and_replaced_if_it_says_another_thing(forge: Forge, redis: Redis) -> None:
    async with replicas(forge, redis, SETTINGS | {"banned_specs": {"gh": ["evil/"]}}) as (resolver,):
        rule = await ban(resolver, "org/", by="ann")
        again = await add(resolver, "ban", "org/", reason=REASON, by="bob")
        assert (again.status_code, PolicyRule.model_validate_json(again.content)) == (200, rule)
        other = await add(resolver, "ban", "org/", reason="It scans ports.")
        assert (other.status_code, other.json()["id"]) == (200, rule.id)
        view = await view_of(resolver)
        assert view.version == 2
        assert [(each.origin, each.pattern) for each in view.rules] == [("settings", "evil/"), ("", "org/")]

        removed = f"/policy/rules/{rule.id}"
        params = {"by": "bob", "reason": "It was cleaned up."}
        assert (await resolver.client.delete(removed, headers=OPERATOR, params=params)).status_code == 204
        assert (await resolver.client.delete(removed, headers=OPERATOR)).json()["code"] == "not_found"
        audit = (await resolver.client.get("/policy/audit", headers=OPERATOR)).json()
        entries = [AuditEntry.model_validate(entry) for entry in audit]
        assert [(entry.action, entry.by, entry.reason) for entry in entries] == [
            ("removed", "bob", "It was cleaned up."),
            ("replaced", "", "It scans ports."),
            ("added", "ann", REASON),
        ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"pattern": "(a+)+$"}, "can match a long link in too many ways"),
        ({"pattern": "("}, "is not a regular expression"),
        ({"provider": "nobodys"}, "No links here begin with nobodys/."),
        ({"kind": "shun"}, "kind"),
    ],
)
async def test_a_rule_that_can_not_hold_is_refused_with_a_sentence(
    forge: Forge, redis: Redis, body: dict[str, str], says: str
) -> None:
    async with replicas(forge, redis, SETTINGS) as (resolver,):
        reply = await add(resolver, **{"kind": "ban", "pattern": "a"} | body)
    assert (reply.status_code in {400, 422}, reply.json()["code"]) == (True, "bad_request")
    assert says in reply.json()["detail"]


async def test_a_resolver_says_why_a_link_is_banned(forge: Forge, redis: Redis) -> None:
    forge.create_repo("new", "name", {"a": "1"})
    forge.create_repo("org", "good", {"a": "1"})
    redirect = Page(301, {"Location": f"{forge.api_url}/repos/new/name/commits/HEAD"})
    forge.pages["/api/repos/old/name/commits/HEAD"] = redirect

    async def explain(resolver: ResolverClient, spec: str) -> Verdict:
        body = {"provider": "gh", "spec": spec}
        reply = await resolver.client.post("/policy/explain", json=body, headers=OPERATOR)
        return Verdict.model_validate_json(reply.content)

    async with replicas(forge, redis, SETTINGS) as (resolver,):
        rule = await ban(resolver, "new/")
        config = (await add(resolver, "config", ".*", config={"quota": 3})).json()
        assert (await explain(resolver, "new/name/main")).rule == rule
        assert (await explain(resolver, "old/name/HEAD")).rule == rule
        verdict = await explain(resolver, "org/good/main")
        assert (verdict.refusal, [match.id for match in verdict.matches]) == ("", [config["id"]])
        assert (await explain(resolver, "org/missing/main")).refusal == ""


@pytest.mark.usefixtures("without_messages")
async def test_verdicts_are_not_older_than_what_the_asker_knows(forge: Forge, redis: Redis) -> None:
    async with replicas(forge, redis, SETTINGS, SETTINGS) as (one, two):
        await ban(one, "org/")
        links = [{"spec": {"provider": "gh", "spec": spec}} for spec in ("org/repo/main", "good/repo/main")]
        reply = await two.client.post("/policy/verdicts", json={"version": 1, "links": links})
        verdicts = Verdicts.model_validate_json(reply.content)
        assert (verdicts.version, [bool(each.refusal) for each in verdicts.verdicts]) == (1, [True, False])
        reply = await two.client.post("/policy/verdicts", json={"version": 2, "links": links})
        assert (reply.status_code, reply.json()["code"]) == (503, "resolver_unavailable")

"""Tokens are fetched as the registry asks, once for concurrent requests, in time, and never logged."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import BasicAuth, web

from services.builder.images import ExistingImage
from services.builder.registry.credentials import Login
from services.builder.registry.settings import RegistrySettings
from services.builder.registry.tokens import RegistryDenied, TokenRequest, Tokens
from services.builder.registry.transport import RegistryUnavailable, Transport
from services.common.models.errors import BinderyError
from services.common.service.tasks import sleep_unless_cancelled
from tests.support.scripted_registry import DIGEST, PATIENT, ScriptedRegistry, always, scripted_registry
from tests.support.settings import settings_for
from tests.support.tls import certificate_for


def transport(**values: object) -> Transport:
    return Transport(settings_for(RegistrySettings, PATIENT | values))


def counting(life: float | None) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    """Tokens `t1`, `t2` and so on, that live for `life` seconds."""
    numbers = iter(range(1, 100))

    async def reply(_: web.BaseRequest) -> web.Response:
        return web.json_response({"token": f"t{next(numbers)}"} | ({"expires_in": life} if life is not None else {}))

    return reply


def wanted(server: ScriptedRegistry, login: Login | None = None) -> TokenRequest:
    realm = f"http://{server.address}/token"
    return TokenRequest(realm=realm, service="a service", scope="repository:x:pull", login=login or Login())


async def test_a_token_is_kept_until_shortly_before_it_expires() -> None:
    async with scripted_registry(counting(300)) as server:
        tokens = Tokens(wire := transport(), early_seconds=15)
        assert [await tokens.get(wanted(server)) for _ in range(3)] == ["t1"] * 3
        assert server.requests[0].query == {"service": "a service", "scope": "repository:x:pull"}
        assert await tokens.get(wanted(server), refused="t1") == "t2"
        assert await tokens.get(wanted(server), refused="t1") == "t2"
        await wire.aclose()


async def test_a_token_that_has_lived_its_time_is_replaced() -> None:
    async with scripted_registry(counting(0.002)) as server:
        tokens = Tokens(wire := transport(), early_seconds=15)
        first = await tokens.get(wanted(server))
        async with asyncio.timeout(60):
            while await tokens.get(wanted(server)) == first:
                await sleep_unless_cancelled(0)
        await wire.aclose()


async def test_a_token_of_one_login_is_not_used_for_another() -> None:
    async with scripted_registry(counting(None)) as server:
        tokens = Tokens(wire := transport(), early_seconds=15)
        ann = wanted(server, Login("ann", "ä:1"))
        bob = wanted(server, Login("bob", "2"))
        assert [await tokens.get(request) for request in (ann, bob, ann)] == ["t1", "t2", "t1"]
        logins = [BasicAuth.decode(request.headers["Authorization"], "utf-8") for request in server.requests]
        assert logins == [("ann", "ä:1", "utf-8"), ("bob", "2", "utf-8")]
        await wire.aclose()


async def test_many_who_ask_at_once_share_one_request_and_its_error() -> None:
    go_on = asyncio.Event()

    async def reply(_: web.BaseRequest) -> web.Response:
        await go_on.wait()
        return web.Response(status=503)

    async with scripted_registry(reply) as server:
        tokens = Tokens(wire := transport(), early_seconds=15)
        asking = [asyncio.create_task(tokens.get(wanted(server))) for _ in range(10)]
        await server.has_request.wait()
        asking[0].cancel()  # who asked first gives up: the others wait on
        go_on.set()
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        assert {str(end) for end in ends[1:]} == {f"its token server {server.address} answered 503"}
        assert len(server.requests) == 1
        await wire.aclose()


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_says_what_was_refused_and_not_to_whom(status: int) -> None:
    async with scripted_registry(always(status)) as server:
        tokens = Tokens(wire := transport(), early_seconds=15)
        with pytest.raises(RegistryDenied) as raised:
            await tokens.get(wanted(server, Login("ann", "hidden")))
        sentence = f"its token server {server.address} refuses our login for repository:x:pull ({status})"
        assert str(raised.value) == sentence
        await wire.aclose()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"token": ""}', b'{"token": 1}', b'{"token": "a\\r\\nb"}', b"<html>"]
)
async def test_an_answer_without_a_token_is_an_error(body: bytes) -> None:
    async with scripted_registry(always(200, body=body)) as server:
        tokens = Tokens(wire := transport(), early_seconds=15)
        with pytest.raises(RegistryUnavailable, match="answered without a token"):
            await tokens.get(wanted(server))
        await wire.aclose()


async def test_docker_hub_answers_401_for_what_is_not_there_yet_and_a_wrong_password_is_something_else() -> None:
    async def registry_reply(_: web.BaseRequest) -> web.Response:
        challenge = f'Bearer realm="http://{tokens.address}/token",service="hub",scope="repository:project/r2d-x:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with scripted_registry(registry_reply) as registry:
        async with scripted_registry(counting(300)) as tokens:
            images = registry.images(registry_not_found_401=True)
            assert await images.find(registry.image) is None
            assert await images.find(registry.image) is None
            await images.aclose()
        async with scripted_registry(always(401)) as tokens:
            images = registry.images(registry_not_found_401=True)
            with pytest.raises(
                BinderyError, match=r"refuses anonymous access for repository:project/r2d-x:pull \(401\)"
            ):
                await images.find(registry.image)
            await images.aclose()


async def test_a_token_from_the_configuration_is_sent_as_it_is(tmp_path: Path) -> None:
    async with scripted_registry(always(200, {"Docker-Content-Digest": DIGEST})) as registry:
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"registrytoken": "r"}}}))
        images = registry.images(docker_config=str(tmp_path))
        assert await images.find(registry.image) == ExistingImage(DIGEST)
        assert registry.requests[0].headers["Authorization"] == "Bearer r"
        await images.aclose()


async def test_a_login_is_not_sent_unencrypted_because_an_encrypted_registry_says_so(tmp_path: Path) -> None:
    async def registry_reply(_: web.BaseRequest) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'})

    authority, tls = certificate_for("localhost", tmp_path)
    async with scripted_registry(registry_reply, tls) as registry, scripted_registry(counting(300)) as tokens:
        host = f"localhost:{registry.port}"
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"username": "ann", "password": "p"}}}))
        values = {"registry_url": f"https://{host}", "registry_ca_file": str(authority), "docker_config": str(tmp_path)}
        images = registry.images(**values, registry_insecure=False)
        with pytest.raises(BinderyError, match="it wants our login sent unencrypted, to http://"):
            await images.find(registry.image)
        assert tokens.requests == []
        await images.aclose()
        images = registry.images(**values, registry_insecure=True)
        with pytest.raises(BinderyError, match=r"it refuses our login to project/r2d-x \(401\)"):
            await images.find(registry.image)
        assert len(tokens.requests) == 1
        await images.aclose()


async def test_googles_metadata_server_is_asked_for_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async def registry_reply(request: web.BaseRequest) -> web.Response:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return web.Response(headers={"Docker-Content-Digest": DIGEST})

    body = b'{"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"}'
    async with scripted_registry(always(200, body=body)) as google, scripted_registry(registry_reply) as registry:
        monkeypatch.setenv("GCE_METADATA_HOST", google.address)
        images = registry.images(registry_credentials="google-metadata")
        assert await images.find(registry.image) == ExistingImage(DIGEST)
        assert await images.find(registry.image) == ExistingImage(DIGEST)
        login = BasicAuth.decode(registry.requests[-1].headers["Authorization"])
        assert (login.login, login.password) == ("oauth2accesstoken", "ya29.x")
        assert [(request.path, request.headers["Metadata-Flavor"]) for request in google.requests] == [
            ("/computeMetadata/v1/instance/service-accounts/default/token", "Google")
        ]
        await images.aclose()


async def test_without_googles_metadata_server_nobody_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_registry(always(404)) as google, scripted_registry(always(200)) as registry:
        monkeypatch.setenv("GCE_METADATA_HOST", google.address)
        images = registry.images(registry_credentials="google-metadata")
        with pytest.raises(BinderyError, match=r"without a login: Google's metadata server answered 404\.") as raised:
            await images.find(registry.image)
        assert raised.value.code == "registry_unavailable"
        assert registry.requests == []
        await images.aclose()

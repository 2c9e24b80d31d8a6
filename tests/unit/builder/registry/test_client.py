"""Only a registry's own answer means "not found"; any other is an error in one sentence, within the time limit."""

import asyncio
import hashlib
import time
from pathlib import Path

import pytest
from aiohttp import web

from services.builder.images import ExistingImage
from services.builder.registry import RegistryImages
from services.builder.registry.client import MANIFESTS
from services.builder.registry.credentials import CredentialsError
from services.builder.registry.google import GoogleMetadata
from services.builder.settings import BuilderSettings
from services.common.models.errors import BinderyError
from tests.support.forward_proxy import ForwardProxy
from tests.support.scripted_registry import API, DIGEST, PATIENT, always, scripted_registry
from tests.support.settings import settings_for


async def away(images: RegistryImages, image: str) -> BinderyError:
    with pytest.raises(BinderyError) as raised:
        await images.find(image)
    await images.aclose()
    assert raised.value.code == "registry_unavailable"
    return raised.value


async def test_one_head_with_every_type_of_manifest_is_enough() -> None:
    async with scripted_registry(always(200, {"Docker-Content-Digest": DIGEST})) as registry:
        images = registry.images()
        assert await images.find(registry.image) == ExistingImage(DIGEST)
        assert [(request.method, request.path) for request in registry.requests] == [
            ("HEAD", "/v2/project/r2d-x/manifests/1")
        ]
        assert registry.requests[0].headers["Accept"] == MANIFESTS
        await images.aclose()


@pytest.mark.parametrize("status", [405, 501])
async def test_if_head_is_refused_get_is_used_and_a_missing_digest_is_computed(status: int) -> None:
    async def reply(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status) if request.method == "HEAD" else web.Response(body=b'{"a": 1}')

    async with scripted_registry(reply) as registry:
        images = registry.images()
        computed = "sha256:" + hashlib.sha256(b'{"a": 1}').hexdigest()
        assert await images.find(registry.image) == ExistingImage(computed)
        assert registry.methods == ["HEAD", "GET"]
        await images.aclose()


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])
async def test_a_get_that_answers_404_with_a_registrys_error_is_not_found(code: str) -> None:
    async def reply(request: web.BaseRequest) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=405)
        return web.json_response({"errors": [{"code": code}]}, status=404)

    async with scripted_registry(reply) as registry:
        images = registry.images()
        assert await images.find(registry.image) is None
        assert registry.methods == ["HEAD", "GET"]
        await images.aclose()


async def test_a_404_without_a_registrys_mark_is_believed_where_a_registry_answers() -> None:
    async def reply(request: web.BaseRequest) -> web.Response:
        return web.Response(status=401 if request.path == "/v2/" else 404)

    async with scripted_registry(reply) as registry:
        images = registry.images()
        assert await images.find(registry.image) is None
        await images.aclose()


async def test_the_404_of_a_proxy_without_a_registry_behind_it_is_not_believed() -> None:
    async with scripted_registry(always(404, body=b"default backend - 404")) as registry:
        error = await away(registry.images(), registry.image)
        sentence = f"The image registry {registry.address} can't be asked: the server there is not a registry"
        assert error.detail == f"{sentence} (404, and 404 for /v2/)."


@pytest.mark.parametrize("status", [400, 406, 500, 502, 503])
async def test_an_answer_that_says_nothing_is_away(status: int) -> None:
    async with scripted_registry(always(status, API)) as registry:
        error = await away(registry.images(), registry.image)
        assert error.detail == f"The image registry {registry.address} can't be asked: it answered {status}."


async def test_a_limit_is_told_with_when_to_come_again() -> None:
    async with scripted_registry(always(429, {"Retry-After": "120"})) as registry:
        error = await away(registry.images(), registry.image)
        assert error.detail.endswith("can't be asked: it limits how often it may be asked (429).")
        assert error.retry_after_seconds == 120


async def test_a_refusal_names_what_was_refused() -> None:
    async with scripted_registry(always(403, API)) as registry:
        error = await away(registry.images(), registry.image)
        assert "gives us no access: it refuses anonymous access to project/r2d-x (403)" in error.detail


@pytest.mark.parametrize("headers", [{}, {"WWW-Authenticate": "Negotiate"}])
async def test_a_login_that_we_do_not_know_is_told(headers: dict[str, str]) -> None:
    async with scripted_registry(always(401, headers)) as registry:
        error = await away(registry.images(registry_not_found_401=True), registry.image)
        assert "offers no way to log in that we support" in error.detail


async def test_a_registry_that_says_nothing_is_away_within_the_bound_and_not_asked_again() -> None:
    async def silence(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with scripted_registry(silence) as registry:
        error = await away(registry.images(registry_read_seconds=0.1), registry.image)
        assert error.detail.endswith("it sent nothing for 0.1 s.")
        assert len(registry.requests) == 1
        started_at = time.monotonic()
        error = await away(registry.images(registry_wait_seconds=0.2), registry.image)
        assert error.detail.endswith("within 0.2 s.")
        assert time.monotonic() - started_at < 30


async def test_a_broken_connection_is_tried_again() -> None:
    async def reply(request: web.BaseRequest) -> web.StreamResponse:
        if len(registry.requests) < 3 and request.transport:
            request.transport.close()
        return web.Response(headers={"Docker-Content-Digest": DIGEST})

    async with scripted_registry(reply) as registry:
        images = registry.images(registry_retries=2)
        assert await images.find(registry.image) == ExistingImage(DIGEST)
        assert len(registry.requests) == 3
        await images.aclose()


async def test_a_connection_that_breaks_again_and_again_is_away() -> None:
    async def reply(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport
        request.transport.close()
        return web.Response()

    async with scripted_registry(reply) as registry:
        error = await away(registry.images(registry_retries=1), registry.image)
        assert error.detail.endswith("it broke off the connection.")
        assert 2 <= len(registry.requests) <= 4  # aiohttp itself repeats a request on a connection that it had kept


async def test_a_name_that_nobody_knows_is_told() -> None:
    images = RegistryImages(settings_for(BuilderSettings, {**PATIENT, "image_prefix": "registry.invalid/p/"}))
    error = await away(images, "registry.invalid/p/x:1")
    assert error.detail == "The image registry registry.invalid can't be asked: its name is not known."


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async def reply(request: web.BaseRequest) -> web.Response:
        return web.Response(status=405) if request.method == "HEAD" else web.Response(body=b"x" * 5000)

    async with scripted_registry(reply) as registry:
        error = await away(registry.images(registry_answer_max_bytes=1000), registry.image)
        assert "its answer is larger than 1000 bytes" in error.detail


async def test_a_redirect_is_followed_and_the_login_stays_behind() -> None:
    async with scripted_registry(always(200, {"Docker-Content-Digest": DIGEST})) as other:

        async def reply(request: web.BaseRequest) -> web.Response:
            if "Authorization" not in request.headers:
                return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})
            return web.Response(status=307, headers={"Location": f"http://{other.address}/manifest"})

        async with (
            scripted_registry(reply) as registry,
            scripted_registry(always(200, body=b'{"token": "abc"}')) as tokens,
        ):
            realm = f"http://{tokens.address}/token"
            images = registry.images()
            assert await images.find(registry.image) == ExistingImage(DIGEST)
            assert registry.requests[-1].headers["Authorization"] == "Bearer abc"
            assert [(request.method, "Authorization" in request.headers) for request in other.requests] == [
                ("HEAD", False)
            ]
            await images.aclose()


async def test_health_asks_once_in_a_while_and_more_often_when_something_is_wrong() -> None:
    answers = [503, 404]

    async def reply(_: web.BaseRequest) -> web.Response:
        return web.Response(status=answers[0], headers=API)

    async with scripted_registry(reply) as registry:
        images = registry.images(registry_health_seconds=1000)
        problem = await images.health_problem()
        assert problem == (
            f"The image registry {registry.address} can't be asked: it answered 503. Start it, or name it in "
            "BINDERY_IMAGE_PREFIX and BINDERY_REGISTRY_URL."
        )
        assert await images.health_problem() == problem
        assert [request.path for request in registry.requests] == ["/v2/project/r2d-health-check/manifests/none"]
        await images.aclose()
        answers.pop(0)
        images = registry.images(registry_health_seconds=0)
        assert [await images.health_problem(), await images.health_problem()] == [None, None]
        assert len(registry.requests) == 3
        await images.aclose()


@pytest.mark.slow
async def test_a_registry_outside_is_asked_through_the_outbound_proxy_and_one_inside_is_not() -> None:
    async with scripted_registry(always(200, {"Docker-Content-Digest": DIGEST})) as registry:
        with ForwardProxy(
            {"registry.test": ("127.0.0.1", registry.port)}, login=("bindery", "hunter2-of-the-proxy")
        ) as proxy:
            outside = {"image_prefix": "registry.test/project/r2d-", "outbound_proxy": proxy.url}
            images = registry.images(**outside)
            assert await images.find("registry.test/project/r2d-x:1") == ExistingImage(DIGEST)
            assert proxy.requests == ["HEAD http://registry.test/v2/project/r2d-x/manifests/1"]
            assert "Proxy-Authorization" not in registry.requests[0].headers
            await images.aclose()

            error = await away(
                registry.images(**outside, registry_url="https://other.test"), "registry.test/project/x:1"
            )
            assert "can't be asked: the outbound proxy answered 403 (BINDERY_OUTBOUND_PROXY_EXCEPT:" in error.detail
            through_missing_proxy = outside | {"outbound_proxy": "http://bindery:hunter2@127.0.0.1:1"}
            error = await away(registry.images(**through_missing_proxy), "registry.test/project/r2d-x:1")
            assert (
                error.detail == "The image registry registry.test can't be asked: the outbound proxy can't be reached."
            )

            images = registry.images(outbound_proxy=proxy.url)  # on this machine
            assert await images.find(registry.image) == ExistingImage(DIGEST)
            error = await away(
                registry.images(**outside, outbound_proxy_except="registry.test"), "registry.test/project/r2d-x:1"
            )
            assert "its name is not known" in error.detail
            await images.aclose()
            assert len(proxy.requests) == 1


async def test_a_clouds_metadata_server_is_asked_without_the_outbound_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv("GCE_METADATA_HOST", "metadata.test")
        settings = settings_for(BuilderSettings, {**PATIENT, "outbound_proxy": proxy.url})
        google = GoogleMetadata(settings)
        with pytest.raises(CredentialsError, match="its name is not known"):
            await google.login_for("registry.test", "x")
        await google.aclose()
        assert proxy.refusals == []


async def test_an_image_that_no_registry_can_hold_is_asked_of_none() -> None:
    async with scripted_registry(always(500)) as registry:
        images = registry.images()
        with pytest.raises(BinderyError, match="No registry can hold an image called") as raised:
            await images.find(f"{registry.address}/Project/x:1")
        assert raised.value.code == "internal"
        assert registry.requests == []
        await images.aclose()


async def test_a_clouds_own_logins_plug_in_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_cloud.py").write_text(
        "from services.builder.registry.credentials import Login\n"
        "class Cloud:\n"
        "    def __init__(self, settings): self.prefix = settings.image_prefix\n"
        "    async def login_for(self, registry, repository): return Login(registry_token=f'{repository}')\n"
        "    async def aclose(self): pass\n"
    )
    (tmp_path / "a_cloud-1.dist-info").mkdir()
    (tmp_path / "a_cloud-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: a-cloud\nVersion: 1\n")
    (tmp_path / "a_cloud-1.dist-info" / "entry_points.txt").write_text("[bindery.registries]\ncloud = a_cloud:Cloud\n")
    monkeypatch.syspath_prepend(tmp_path)
    async with scripted_registry(always(200, {"Docker-Content-Digest": DIGEST})) as registry:
        images = registry.images(registry_credentials="cloud")
        assert await images.find(registry.image) == ExistingImage(DIGEST)
        assert registry.requests[0].headers["Authorization"] == "Bearer project/r2d-x"
        await images.aclose()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"registry_ca_file": "/none.pem"}, "BINDERY_REGISTRY_CA_FILE /none.pem can't be used"),
        ({"registry_credentials": "magic"}, "there are: docker-config, google-metadata"),
    ],
)
def test_settings_that_cannot_be_used_are_told_at_the_start(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RegistryImages(settings_for(BuilderSettings, values))


async def test_an_answer_that_is_nested_too_deeply_is_not_a_registrys() -> None:
    async def reply(request: web.BaseRequest) -> web.Response:
        return web.Response(status=405) if request.method == "HEAD" else web.Response(status=404, body=b"[" * 100_000)

    async with scripted_registry(reply) as registry:
        assert "not a registry" in (await away(registry.images(), registry.image)).detail

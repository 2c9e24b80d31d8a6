"""Images are found in a real registry, with any kind of login; an unavailable registry never means "not found"."""

import asyncio
import base64
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.builder.images import ExistingImage
from services.builder.registry import RegistryImages
from services.builder.settings import BuilderSettings
from services.common.models.errors import BinderyError
from tests.support.docker_registry import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Registry
from tests.support.registry_token_server import TokenServer
from tests.support.scripted_registry import PATIENT
from tests.support.settings import settings_for
from tests.support.tls import certificate_for


@contextlib.asynccontextmanager
async def images_of(registry: Registry, **others: object) -> AsyncIterator[RegistryImages]:
    """Open the images of a registry, as an executor that pushes to it looks them up."""
    settings = {"image_prefix": f"{registry.address}/project/r2d-", "registry_insecure": not registry.tls}
    images = RegistryImages(settings_for(BuilderSettings, {**PATIENT, **settings, **others}))
    try:
        yield images
    finally:
        await images.aclose()


def config_json(folder: Path, registry: Registry, **entry: str) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {registry.address: entry}}))
    return str(path)


def encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


async def refusal(images: RegistryImages, image: str) -> str:
    """Return the reason why it can't be said whether an image exists."""
    with pytest.raises(BinderyError) as caught:
        await images.find(image)
    assert caught.value.code == "registry_unavailable"
    return caught.value.detail


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without logins."""
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def token_server(tmp_path: Path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path, users={"ann": "secret"}, refresh_tokens={"refresh": "ann"}) as server:
        yield server


@pytest.mark.parametrize("kind", [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST])
async def test_an_image_of_every_kind_is_found_by_its_digest(registry: Registry, kind: str) -> None:
    digest = registry.push("project/r2d-kinds:1", kind=kind, salt=kind)
    async with images_of(registry) as images:
        assert await images.find(f"{registry.address}/project/r2d-kinds:1") == ExistingImage(digest)
        assert await images.find(f"{registry.address}/project/r2d-kinds@{digest}") == ExistingImage(digest)


async def test_a_tag_or_a_repository_that_is_not_there_is_not_found(registry: Registry) -> None:
    registry.push("project/r2d-one:1")
    async with images_of(registry) as images:
        assert await images.find(f"{registry.address}/project/r2d-one:2") is None
        assert await images.find(f"{registry.address}/project/r2d-other:1") is None
        assert await images.health_problem() is None


async def test_a_name_without_a_tag_is_the_latest(registry: Registry) -> None:
    digest = registry.push("project/r2d-two:latest")
    async with images_of(registry) as images:
        assert await images.find(f"{registry.address}/project/r2d-two") == ExistingImage(digest)


async def test_a_password_opens_a_registry_that_wants_one(tmp_path: Path) -> None:
    with Registry(tmp_path, users={"ann": "se:cret"}) as registry:
        basic = {"Authorization": f"Basic {encoded('ann', 'se:cret')}"}
        digest = registry.push("project/r2d-x:1", headers=basic)
        image = f"{registry.address}/project/r2d-x:1"
        config = config_json(tmp_path, registry, auth=encoded("ann", "se:cret"))
        async with images_of(registry, docker_config=config) as images:
            assert await images.find(image) == ExistingImage(digest)
            assert await images.find(f"{registry.address}/project/r2d-y:1") is None

            config_json(tmp_path, registry, username="ann", password="another")
            assert "refuses our login to project/r2d-x (401)" in await refusal(images, image)
            assert "another" not in str(await images.health_problem())

            config_json(tmp_path, registry, username="ann", password="se:cret")
            assert await images.find(image) == ExistingImage(digest), "the file is read again once it has changed"


async def test_a_registry_that_wants_a_password_is_not_empty_for_who_has_none(tmp_path: Path) -> None:
    with Registry(tmp_path, users={"ann": "secret"}) as registry:
        async with images_of(registry, docker_config=str(tmp_path / "none.json")) as images:
            message = await refusal(images, f"{registry.address}/project/r2d-x:1")
            assert "refuses anonymous access to project/r2d-x (401)" in message
            assert "none.json" not in message, "where our files lie is nothing that users read"
            assert (await images.health_problem() or "").startswith(
                f"The image registry {registry.address} gives us no access"
            )


async def test_a_token_is_fetched_from_where_the_registry_says_and_used_again(
    tmp_path: Path, token_server: TokenServer
) -> None:
    with Registry(tmp_path, tokens=token_server) as registry:
        image = f"{registry.address}/project/r2d-x:1"
        pushing = {"Authorization": f"Bearer {token_server.push_token('project/r2d-x')}"}
        digest = registry.push("project/r2d-x:1", headers=pushing)
        config = config_json(tmp_path, registry, auth=encoded("ann", "secret"))
        async with images_of(registry, docker_config=config) as images:
            results = await asyncio.gather(*(images.find(image) for _ in range(20)))
            assert set(results) == {ExistingImage(digest)}
            assert [(g.user, g.scope) for g in token_server.grants] == [("ann", "repository:project/r2d-x:pull")]
            assert await images.find(f"{registry.address}/project/r2d-y:1") is None
            assert len(token_server.grants) == 2


async def test_a_refresh_token_is_exchanged(tmp_path: Path, token_server: TokenServer) -> None:
    with Registry(tmp_path, tokens=token_server) as registry:
        config = config_json(tmp_path, registry, identitytoken="refresh")
        async with images_of(registry, docker_config=config) as images:
            assert await images.find(f"{registry.address}/project/r2d-x:1") is None
            assert [(grant.user, grant.client_id) for grant in token_server.grants] == [("ann", "bindery")]

            config_json(tmp_path, registry, identitytoken="stale")
            message = await refusal(images, f"{registry.address}/project/r2d-x:1")
            assert "refuses our login for repository:project/r2d-x:pull (401)" in message


async def test_an_anonymous_token_reads_what_is_public_and_no_more(tmp_path: Path, token_server: TokenServer) -> None:
    token_server.public.add("project/r2d-x")
    with Registry(tmp_path, tokens=token_server) as registry:
        pushing = {"Authorization": f"Bearer {token_server.push_token('project/r2d-x')}"}
        digest = registry.push("project/r2d-x:1", headers=pushing)
        nobody = {"docker_config": str(tmp_path / "none.json")}
        async with images_of(registry, **nobody) as images:
            assert await images.find(f"{registry.address}/project/r2d-x:1") == ExistingImage(digest)
            message = await refusal(images, f"{registry.address}/project/r2d-private:1")
            assert "refuses anonymous access to project/r2d-private (401)" in message
        async with images_of(registry, registry_not_found_401=True, **nobody) as images:
            assert await images.find(f"{registry.address}/project/r2d-private:1") is None


async def test_a_token_that_the_registry_turns_down_is_replaced_once(tmp_path: Path, token_server: TokenServer) -> None:
    with Registry(tmp_path, tokens=token_server) as registry:
        config = config_json(tmp_path, registry, auth=encoded("ann", "secret"))
        async with images_of(registry, docker_config=config) as images:
            assert await images.find(f"{registry.address}/project/r2d-x:1") is None
            registry.stop()
            (tmp_path / "other").mkdir()
            with TokenServer(tmp_path / "other", users={"ann": "secret"}) as another:
                registry.tokens = another
                registry.configure()
                registry.start()
                assert await images.find(f"{registry.address}/project/r2d-x:1") is None
                assert len(another.grants) == 1
            assert len(token_server.grants) == 1


async def test_a_certificate_of_ones_own_is_trusted_by_its_file_or_not_looked_at(tmp_path: Path) -> None:
    authority, _ = certificate_for("localhost", tmp_path)
    with Registry(tmp_path, tls=tmp_path) as registry:
        digest = registry.push("project/r2d-x:1")
        image = f"{registry.address}/project/r2d-x:1"
        async with images_of(registry, registry_ca_file=str(authority)) as images:
            assert await images.find(image) == ExistingImage(digest)
        async with images_of(registry, registry_verify=False) as images:
            assert await images.find(image) == ExistingImage(digest)
        async with images_of(registry) as images:
            assert "its certificate is not trusted (self-signed certificate)" in await refusal(images, image)
        another = {"registry_url": f"https://127.0.0.1:{registry.port}", "registry_ca_file": str(authority)}
        async with images_of(registry, **another) as images:
            assert "its certificate is not trusted (IP address mismatch" in await refusal(images, image)
        async with images_of(registry, registry_insecure=True) as images:
            assert f"The image registry {registry.address} can't be asked: it" in await refusal(images, image)


async def test_https_to_a_registry_that_speaks_http_says_so(registry: Registry) -> None:
    async with images_of(registry, registry_insecure=False) as images:
        message = await refusal(images, f"{registry.address}/project/r2d-one:1")
        assert message == f"The image registry {registry.address} can't be asked: it does not speak TLS as we do."


async def test_a_registry_that_is_stopped_is_away_and_found_again_once_it_is_back(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        digest = registry.push("project/r2d-x:1")
        image = f"{registry.address}/project/r2d-x:1"
        async with images_of(registry, registry_health_seconds=0) as images:
            assert await images.find(image) == ExistingImage(digest)
            registry.stop()
            message = f"The image registry {registry.address} can't be asked: connection refused."
            assert await refusal(images, image) == message
            mend = "Start it, or name it in BINDERY_IMAGE_PREFIX and BINDERY_REGISTRY_URL."
            assert await images.health_problem() == f"{message} {mend}"
            registry.start()
            assert await images.find(image) == ExistingImage(digest)
            assert await images.health_problem() is None


async def test_a_host_that_takes_no_connection_is_away_within_the_bound() -> None:
    with contextlib.ExitStack() as connections:
        server = connections.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        host, port = server.getsockname()
        for _ in range(3):  # nobody accepts: once the queue is full, Linux leaves who comes without an answer
            client = connections.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((host, port))
        images = RegistryImages(BuilderSettings(image_prefix=f"{host}:{port}/p/", registry_connect_seconds=0.3))
        message = f"The image registry {host}:{port} can't be asked: no connection within 0.3 s."
        assert await refusal(images, f"{host}:{port}/p/x:1") == message
        await images.aclose()


async def test_a_registry_that_stalls_counts_as_unavailable_after_the_limit(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.push("project/r2d-x:1")
        image = f"{registry.address}/project/r2d-x:1"
        async with images_of(registry, registry_read_seconds=0.3) as images:
            assert registry.process is not None
            registry.process.send_signal(signal.SIGSTOP)
            try:
                assert "it sent nothing for 0.3 s" in await refusal(images, image)
            finally:
                registry.process.send_signal(signal.SIGCONT)
            assert await images.find(image) is not None

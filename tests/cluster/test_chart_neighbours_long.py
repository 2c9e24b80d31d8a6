"""Neighbours elsewhere, as docs/helm.md has them: a Redis, a hub, a hub's database, and a registry with a login."""

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from deploy.redis.users import USERS, redis_user_name, users_file
from tests.support.api_launches import ApiLaunch
from tests.support.cluster import Cluster, secret
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import Repository, run_notebook, with_notebook
from tests.support.helm_release import EXAMPLES, HelmRelease
from tests.support.installed import SERVICES
from tests.support.page_commands import commands_block, readers_environment, values_shown
from tests.support.paths import CHECKOUT
from tests.support.ports import free_ports
from tests.support.postgres import Postgres, running_postgres
from tests.support.sentinel import SENTINEL_PASSWORD, SentinelCluster, running_cluster
from tests.support.tcp_proxy import relay
from tests.support.tls import issued_certificate_for
from tests.support.tls_front import tls_fronts
from tests.support.valkey import PASSWORD, Valkey, running_valkey

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.usefixtures("own_cluster")]
LOGIN = ("bindery", "the password")
SECOND_ID = "0123456789ab"
SECOND_TOKEN = "token-of-the-second-launcher"
NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder of this machine, the cluster beside it, and the registry that both reach."""

    folder: Path
    cluster: Cluster
    engine: Engine
    images: dict[str, Any]
    registry: Registry

    def release(self, name: str, **values: Any) -> HelmRelease:
        """Return a release, whose images go to the registry, that is not installed."""
        folder = self.folder / name
        folder.mkdir()
        release = HelmRelease(
            folder, cluster=self.cluster, engine=self.engine, images=self.images, namespace=namespace_of(name), **values
        )
        release.values["registry"] = {
            "bundled": False,
            "imagePrefix": f"{self.registry.address}/{name}/r2d-",
            "url": f"http://{self.cluster.host}:{self.registry.port}",
        } | values.get("registry", {})
        return release


def namespace_of(release: str) -> str:
    return f"bindery-neighbours-{os.getpid()}-{release}"


@pytest.fixture(scope="module")
def site(
    the_cluster: Cluster, the_engine: Engine, chart_images: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("neighbours")
    with (
        Registry(folder, users=dict([LOGIN]), host="") as registry,
        the_cluster.pulls_from(registry.address, f"http://{the_cluster.host}:{registry.port}"),
    ):
        yield Site(folder=folder, cluster=the_cluster, engine=the_engine, images=chart_images, registry=registry)


def type_page(release: HelmRelease, heading: str) -> None:
    """Type the commands of docs/helm.md below a heading, for the release's namespace."""
    block = commands_block("helm.md", heading).replace("namespace bindery", f"namespace {release.namespace}")
    kubectl = Path(release.cluster.kubectl_program).parent
    environ = readers_environment() | {"KUBECONFIG": str(release.cluster.kubeconfig), "PYTHONPATH": str(CHECKOUT)}
    environ["PATH"] = f"{kubectl}:{environ['PATH']}"
    subprocess.run(["sh", "-ec", block], cwd=release.folder, env=environ, check=True, capture_output=True)


def add_to_secret(release: HelmRelease, name: str, **data: str) -> None:
    """Set keys of a Secret, dashes as underscores, and make it if it is not there."""
    manifest = secret(name, **{key.replace("_", "-"): text for key, text in data.items()})
    release.kubectl("apply", "--server-side", "--field-manager=tests", "-f", "-", stdin=json.dumps(manifest))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        postgres.make_database("hub", "hub")
        yield postgres


@contextlib.contextmanager
def redis_with_tls(release: HelmRelease, host: str) -> Iterator[tuple[Valkey, int]]:
    """Keep a Redis with the users that the page's commands make, and where it is reached by TLS."""
    users = release.folder / "redis-users"
    users.mkdir()
    (users / "health.env").write_text(f"BINDERY_REDIS_URL=redis://bindery-health:{PASSWORD}@localhost/0")
    type_page(release, "## Redis")
    authority, context = issued_certificate_for(host, release.folder)
    release.kubectl("create", "configmap", "redis-authority", f"--from-file=ca.pem={authority}")
    plain, public = free_ports(2, avoid=set())
    with (
        running_valkey(release.folder, (users / "users.acl").read_text()) as valkey,
        relay(valkey.socket, listen=("127.0.0.1", plain)),
        tls_fronts({plain: public}, context, host=host),
    ):
        yield valkey, public


@dataclass(frozen=True, kw_only=True)
class First:
    """An installation with Redis and the hub's database by URL, and a login at the registry."""

    release: HelmRelease
    valkey: Valkey


@pytest.fixture(scope="module")
def first(site: Site, postgres: Postgres) -> Iterator[First]:
    host = site.cluster.host
    login = dict(zip(("username", "password"), LOGIN, strict=True))
    release = site.release("first", secrets={"existing": "bindery-secrets"}, registry=login)
    with contextlib.ExitStack() as stack:
        stack.callback(site.cluster.kubectl, "delete", "namespace", release.namespace, "--ignore-not-found")
        type_page(release, "## Secrets")
        valkey, redis_port = stack.enter_context(redis_with_tls(release, host))
        database = stack.enter_context(relay(("127.0.0.1", postgres.port), listen=(host, 0)))
        stack.callback(release.remove)  # while Redis is there: services let go of what they own
        add_to_secret(release, "bindery-secrets", hub_db_url=postgres.url("hub", place=database.removeprefix("tcp://")))
        add_to_secret(release, "second-launcher", token=SECOND_TOKEN)
        with_second = values_shown("helm.md", "hubFrom")
        [who] = with_second["networkPolicy"]["hubFrom"]
        who["namespaceSelector"]["matchLabels"][NAMESPACE] = namespace_of("second")
        trusting = values_shown("helm.md", "extraVolumeMounts")
        query = trusting["redis"]["url"].partition("?")[2]
        trusting["redis"]["url"] = (
            f"rediss://{{user}}:{{password}}@{host}:{redis_port}/0?{query}&ssl_check_hostname=true"
        )
        release.change(trusting, with_second)
        yield First(release=release.install("--values", str(EXAMPLES / "kind.yaml")), valkey=valkey)


@pytest.fixture(scope="module")
def sentinels(site: Site) -> Iterator[SentinelCluster]:
    """Three servers with the users of two installations, and three Sentinels, where pods reach them."""
    passwords = dict.fromkeys(USERS, PASSWORD)
    own = users_file("bindery:default", passwords)
    second = users_file(f"bindery:{SECOND_ID}", passwords, "two-bindery").splitlines()[1:]
    users = "\n".join([*own.splitlines(), *second])
    with running_cluster(site.folder / "sentinel", users=users, host=site.cluster.host) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def second(site: Site, first: First, sentinels: SentinelCluster) -> Iterator[HelmRelease]:
    """An installation with the first one's hub, a Redis behind Sentinel, and a Secret of ours for the registry."""
    secrets = {f"redis-{service}-password": PASSWORD for service in SERVICES}
    secrets |= {"installation-id": SECOND_ID, "redis-sentinel-password": SENTINEL_PASSWORD}
    release = site.release(
        "second",
        secrets={"values": secrets},
        redis={"bundled": False, "url": f"redis+sentinel://two-{{user}}:{{password}}@{sentinels.place}"},
        hub={
            "bundled": False,
            "apiUrl": f"http://{first.release.name}-hub.{first.release.namespace}:8081/hub/api/",
            "tokenSecret": {"name": "second-launcher", "key": "token"},
        },
        serversUrl=first.release.values["serversUrl"],
        registry={"existingSecret": "login"},
    )
    with contextlib.ExitStack() as stack:
        stack.callback(release.remove)
        site.cluster.kubectl("create", "namespace", release.namespace)
        add_to_secret(release, "second-launcher", token=SECOND_TOKEN)
        release.kubectl(
            "create", "secret", "docker-registry", "login", f"--docker-server={site.registry.address}",
            f"--docker-username={LOGIN[0]}", f"--docker-password={LOGIN[1]}",
        )  # fmt: skip
        yield release.install("--values", str(EXAMPLES / "kind.yaml"))


@pytest.fixture(scope="module")
def repository(site: Site) -> Iterator[Repository]:
    with Forge(site.folder / "forge", host=site.cluster.host) as forge:
        yield with_notebook(forge, "neighbours", site.engine.jupyter)


@pytest.fixture(scope="module")
def launched(first: First, repository: Repository) -> ApiLaunch:
    """A launch at the first installation, whose server runs."""
    launch = repository.launch(first.release)
    run_notebook(launch, repository)
    return launch


def is_reached(launch: ApiLaunch) -> bool:
    view = launch.view
    answer = httpx.get(f"{view['url']}api/status", params={"token": view["token"]}, trust_env=False)
    return answer.status_code == 200


def test_services_use_a_redis_by_url_with_tls_and_a_user_for_each(first: First, launched: ApiLaunch) -> None:
    assert is_reached(launched)
    password = (first.release.folder / "redis-users" / "admin.env").read_text().rpartition("@")[0].rpartition(":")[2]
    with redis.Redis(
        unix_socket_path=str(first.valkey.socket), username=redis_user_name("admin"), password=password
    ) as admin:
        users = {client["user"] for client in admin.client_list()}
        assert users - {"bindery-admin", "bindery-health"} == {redis_user_name(service) for service in SERVICES}
        prefix = f"bindery:{first.release.secret['installation-id']}:"
        assert {key for key in admin.keys("*") if not (key.startswith(prefix.encode()) or b"arq:" in key)} == set()
        assert [entry["username"] for entry in admin.acl_log()] == []


def test_images_go_to_a_registry_with_a_login_and_come_from_there(
    site: Site, first: First, launched: ApiLaunch
) -> None:
    name, _, tag = launched.build["image"].removeprefix(f"{site.registry.address}/").rpartition(":")
    assert name.startswith("first/r2d-")
    basic = base64.b64encode(":".join(LOGIN).encode()).decode()
    path = f"/v2/{name}/manifests/{tag}"
    assert site.registry.call("GET", path, headers={"Authorization": f"Basic {basic}"}).status == 200
    assert site.registry.call("GET", path).status == 401
    [pod] = first.release.objects("pods", first.release.servers)
    [container] = pod["spec"]["containers"]
    assert container["image"].startswith(f"{site.registry.address}/{name}")
    assert pod["spec"]["imagePullSecrets"] == [{"name": f"{first.release.name}-registry-login"}]


def test_a_hub_with_its_database_elsewhere_comes_back_with_its_servers(
    first: First, launched: ApiLaunch, postgres: Postgres
) -> None:
    release = first.release
    before = release.hub_users()
    assert {name for (name,) in postgres.rows("SELECT name FROM users")} == set(before)
    assert len(before) == 1
    release.kubectl("delete", "pod", f"{release.name}-hub-0")
    release.until_ready("hub")
    assert release.hub_users() == before
    assert is_reached(launched)
    volume = release.folder / "volumes" / "hub"
    files = {str(file.relative_to(volume)) for file in volume.rglob("*") if file.is_file()}
    assert files == {"hub/hub/cookie_secret", "routes/hosts.yaml", "routes/rules.toml"}


def test_a_second_installation_uses_the_hub_of_the_first_and_a_redis_behind_sentinel(
    second: HelmRelease, first: First, launched: ApiLaunch, repository: Repository, sentinels: SentinelCluster
) -> None:
    before = first.release.hub_users()
    launch = repository.launch(second)
    view = run_notebook(launch, repository)
    assert view["url"].startswith(first.release.values["serversUrl"])
    assert is_reached(launched), "the first one's server is none of the second's business"
    servers = first.release.objects("pods", first.release.servers)
    assert len({pod["metadata"]["labels"]["bindery/installation"] for pod in servers}) == len(servers) == 2
    assert set(before) < set(first.release.hub_users())
    with sentinels.admin(sentinels.master) as admin:
        assert admin.keys(f"bindery:{SECOND_ID}:*")
        assert [entry["username"] for entry in admin.acl_log()] == []

"""An image's name says where it is as the engine reads it that pushes it."""

import pytest

from services.builder.image_names import image_name
from services.builder.registry.address import RegistryAddress
from services.builder.registry.reference import Reference
from services.builder.registry.settings import RegistrySettings
from services.common.models import BuildInput
from tests.support.settings import settings_for

SHA = "sha256:" + "0" * 64
COMMIT = "50533eb470ee6c24e872043d30b2fee463d6943f"


@pytest.mark.parametrize(
    ("image", "host", "repository", "tag"),
    [
        ("gcr.io/p/r2d-x:1", "gcr.io", "p/r2d-x", "1"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000", "x", "latest"),
        ("127.0.0.1:5000/a/b:9782777.v3", "127.0.0.1:5000", "a/b", "9782777.v3"),
        ("[::1]:5000/x:1", "[::1]:5000", "x", "1"),
        ("localhost/x:1", "localhost", "x", "1"),
        ("Registry/x:Tag", "Registry", "x", "Tag"),
        ("registry.example.org/x", "registry.example.org", "x", "latest"),
        ("jupyterhub/x:1", "docker.io", "jupyterhub/x", "1"),
        ("ab/x:1", "docker.io", "ab/x", "1"),
        ("docker.io/org/x:1", "docker.io", "org/x", "1"),
        ("index.docker.io/org/x:1", "docker.io", "org/x", "1"),
        ("debian", "docker.io", "library/debian", "latest"),
        (f"gcr.io/p/x@{SHA}", "gcr.io", "p/x", SHA),
        (f"gcr.io/p/x:1@{SHA}", "gcr.io", "p/x", SHA),
        ("gcr.io/p/a--b__c.d-2de:1", "gcr.io", "p/a--b__c.d-2de", "1"),
    ],
)
def test_a_name_is_taken_apart(image: str, host: str, repository: str, tag: str) -> None:
    assert Reference.parse(image) == Reference(host, repository, tag)


@pytest.mark.parametrize(
    "image",
    [
        "gcr.io/Project/x:1", "gcr.io/p/-x:1", "gcr.io/p//x:1", "gcr.io/:1", "", ":1", "gcr.io/p/x:", "gcr.io/p/x:a/b:",
        "gcr.io/p/x:" + "a" * 129, "gcr.io/p/x@sha256:00", f"gcr.io/p/x:-@{SHA}", "gcr.io:port/x:1", "gcr.io/p x:1",
        "gcr.io/" + "a" * 256, "gcr.io/p/x\n:1", "gcr.io/../x:1",
    ],
)  # fmt: skip
def test_what_no_registry_can_hold_is_not_a_name(image: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reference.parse(image)


@pytest.mark.parametrize(
    "slug", ["binder-examples-requirements", "https://example.org/A b/ü", "zenodo-3242074", "x" * 300]
)
def test_every_name_that_we_make_can_be_asked_for(slug: str) -> None:
    image = image_name("127.0.0.1:5000/Team_A/r2d-", BuildInput(repo_url="u", build_ref=COMMIT, slug=slug))
    reference = Reference.parse(image)
    assert (reference.host, reference.tag) == ("127.0.0.1:5000", COMMIT)
    assert reference.repository.startswith("team-a/r2d-")


def address(**values: object) -> RegistryAddress:
    return RegistryAddress.of(settings_for(RegistrySettings, values))


@pytest.mark.parametrize(
    ("prefix", "url", "names"),
    [
        ("gcr.io/p/r2d-", "https://gcr.io", ("gcr.io",)),
        ("127.0.0.1:5000/p/", "https://127.0.0.1:5000", ("127.0.0.1:5000",)),
        ("org/r2d-", "https://registry-1.docker.io", ("docker.io",)),
        ("docker.io/org/r2d-", "https://registry-1.docker.io", ("docker.io",)),
    ],
)
def test_the_prefix_says_where_the_registry_is(prefix: str, url: str, names: tuple[str, ...]) -> None:
    registry = address(image_prefix=prefix)
    assert (registry.url, registry.names) == (url, names)


@pytest.mark.parametrize(
    ("registry_url", "insecure", "url"),
    [
        ("http://registry.svc:5000", False, "http://registry.svc:5000"),
        ("registry.svc:5000/", True, "http://registry.svc:5000"),
        ("https://registry.svc", True, "https://registry.svc"),
        ("https://example.org/registry/v2/", False, "https://example.org/registry"),
        ("https://index.docker.io/v1/", False, "https://registry-1.docker.io"),
    ],
)
def test_a_url_wins_over_the_prefix(registry_url: str, insecure: bool, url: str) -> None:
    assert address(image_prefix="gcr.io/p/", registry_url=registry_url, registry_insecure=insecure).url == url


def test_the_login_may_stand_under_the_name_that_images_have_but_docker_hubs_goes_nowhere_else() -> None:
    inside = "http://registry.svc:5000"
    assert address(image_prefix="gcr.io/p/", registry_url=inside).names == ("registry.svc:5000", "gcr.io")
    assert address(image_prefix="org/p-", registry_url=inside).names == ("registry.svc:5000",)


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://u:p@x", "https://x:port", "https://x:0", "https://x/?a=b"]
)
def test_an_invalid_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="BINDERY_REGISTRY_URL must be like"):
        address(registry_url=url)


def test_a_prefix_that_can_begin_no_name_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"BINDERY_IMAGE_PREFIX 'gcr\.io//' can't begin an image's name"):
        address(image_prefix="gcr.io//")

"""Names of channels lead to the operator's mirror; addresses of a repository are checked."""

import pytest

from services.builder.executors.process.session.conda.channels import resolve
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from services.builder.executors.process.session.spec import SessionSettings

MIRROR = "http://127.0.0.1:1/mirror"
SETTINGS = SessionSettings(conda_channel_alias=f"{MIRROR}/", conda_defaults=("http://127.0.0.1:1/main", "r"))


def _environment(*channels: str, adds: bool = True, dependencies: tuple[str, ...] = ()) -> CondaEnvironment:
    return CondaEnvironment(
        file="environment.yml", channels=channels, adds_default_channels=adds, dependencies=dependencies
    )


@pytest.mark.parametrize(
    ("environment", "urls"),
    [
        (_environment(), [f"{MIRROR}/conda-forge"]),
        (_environment(adds=False), [f"{MIRROR}/conda-forge"]),
        (_environment("lab", adds=False), [f"{MIRROR}/lab"]),
        (_environment("lab/label/dev", "conda-forge"), [f"{MIRROR}/lab/label/dev", f"{MIRROR}/conda-forge"]),
        (_environment("defaults"), ["http://127.0.0.1:1/main", f"{MIRROR}/r", f"{MIRROR}/conda-forge"]),
        (_environment("https://192.0.0.9/x/", adds=False), ["https://192.0.0.9/x"]),
    ],
)
async def test_channels_become_addresses_in_their_order(environment: CondaEnvironment, urls: list[str]) -> None:
    settings = SETTINGS.model_copy(update={"allowed_networks": ("192.0.0.9/32",)})
    assert list((await resolve(environment, settings)).urls) == urls


@pytest.mark.parametrize(
    ("dependency", "resolved"),
    [
        ("numpy=2", "numpy=2"),
        ("lab::numpy >=2,<3", f"{MIRROR}/lab::numpy >=2,<3"),
        ("lab/linux-64::numpy", f"{MIRROR}/lab::numpy"),
        ("lab/label/dev::numpy", f"{MIRROR}/lab/label/dev::numpy"),
    ],
)
async def test_the_channel_of_a_dependency_becomes_an_address_and_counts(dependency: str, resolved: str) -> None:
    channels = await resolve(_environment(dependencies=(dependency,)), SETTINGS)
    assert channels.dependencies == (resolved,)
    named = [resolved.partition("::")[0]] if "::" in resolved else []
    assert list(channels.urls) == [*named, f"{MIRROR}/conda-forge"]


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        (_environment("http://127.0.0.1:9/x"), "address_not_allowed", "loopback"),
        (_environment("http://[::1]/x"), "address_not_allowed", "loopback"),
        (_environment("https://a:b@example.org/x"), "build_failed", "password"),
        (_environment("https://0x7f.1/x"), "build_failed", "names no host"),
        (_environment("ftp://example.org/x"), "build_failed", "not an http or https address"),
        (_environment("file:///etc"), "build_failed", "neither the name of a channel"),
        (_environment("../other"), "build_failed", "neither the name of a channel"),
        (_environment("/etc"), "build_failed", "neither the name of a channel"),
        (_environment("lab/../other"), "build_failed", "neither the name of a channel"),
        (_environment(dependencies=("http://10.0.0.1/x::a",)), "address_not_allowed", "private"),
        (_environment(dependencies=("http://10.0.0.1/a-1-0.conda",)), "address_not_allowed", "private"),
        (_environment(dependencies=("file:///tmp/a-1-0.conda",)), "build_failed", "neither the name of a channel"),
        (_environment(dependencies=("./a-1-0.conda",)), "build_failed", "is a path"),
    ],
)
async def test_what_a_repository_may_not_reach_is_refused(environment: CondaEnvironment, code: str, words: str) -> None:
    with pytest.raises(StepError, match=words) as caught:
        await resolve(environment, SETTINGS)
    assert caught.value.code == code
    assert caught.value.message.startswith("environment.yml")


async def test_a_host_that_there_is_not_is_named() -> None:
    with pytest.raises(StepError, match=r"There is no host named no-such-host\.invalid"):
        await resolve(_environment("https://no-such-host.invalid/x"), SETTINGS)


async def test_where_a_proxy_looks_names_up_only_addresses_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    channels = await resolve(_environment("https://no-such-host.invalid/x", adds=False), SETTINGS)
    assert channels.urls == ("https://no-such-host.invalid/x",)
    with pytest.raises(StepError, match="private"):
        await resolve(_environment("https://10.0.0.1/x"), SETTINGS)

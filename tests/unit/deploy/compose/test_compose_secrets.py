"""`make compose-secrets`: what it makes, what it leaves as it is, and what it refuses."""

import base64
import json
import stat
from pathlib import Path

import pytest

from deploy.compose import env_file
from deploy.compose.__main__ import CHECKOUT, MOUNTED_FILES, main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout's folder, with an engine's socket."""
    (tmp_path / ".env.example").write_text((CHECKOUT / ".env.example").read_text())
    (tmp_path / "docker.sock").touch()
    for name in MOUNTED_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((CHECKOUT / name).read_bytes())
    return tmp_path


def run(folder: Path, **environ: str) -> int:
    return main(["--folder", str(folder)], {"DOCKER_HOST": f"unix://{folder}/docker.sock", **environ})


def add_lines(folder: Path, *lines: str) -> None:
    path = folder / ".env"
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "secrets").iterdir())}


def test_one_command_makes_all_and_a_second_changes_nothing(folder: Path) -> None:
    assert run(folder) == 0
    before = files(folder), (folder / ".env").read_text()
    env = env_file.read(folder / ".env")
    assert env["DOCKER_GID"] == str((folder / "docker.sock").stat().st_gid)
    assert env["BINDERY_DOCKER_SOCKET"] == f"{folder}/docker.sock"

    assert run(folder) == 0
    assert (files(folder), (folder / ".env").read_text()) == before


def test_nobody_else_may_read_a_secret(folder: Path) -> None:
    run(folder)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "secrets").iterdir()}
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    assert modes.pop("users.acl") == 0o644  # Redis' own user reads it, and it has hashes alone
    assert set(modes.values()) == {0o600}


def test_no_two_installations_share_a_secret(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in (".env.example", "docker.sock", *MOUNTED_FILES):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((folder / name).read_bytes())
    run(folder)
    run(other)
    ours, theirs = (env_file.read(place / "secrets/all.env") for place in (folder, other))
    assert ours.keys() == theirs.keys()
    assert not set(ours.values()) & set(theirs.values())
    assert len(set(ours.values())) == len(ours)


def test_a_container_gets_its_own_secrets_alone(folder: Path) -> None:
    run(folder)
    secrets = env_file.read(folder / "secrets/all.env")
    holders = {
        name: {
            path.stem for path in (folder / "secrets").glob("*.env") if path.stem != "all" and value in path.read_text()
        }
        for name, value in secrets.items()
    }
    services = {"gateway", "resolver", "builder", "worker", "launcher"}
    assert holders == {
        "INSTALLATION_ID": services,
        "SERVICE_TOKEN": services,
        "METRICS_TOKEN": services,
        "INSTALLATION_SECRET": {"gateway", "launcher"},
        "HUB_API_TOKEN": {"hub", "launcher"},
        "HUB_CRYPT_KEY": {"hub"},
        "PROXY_API_PASSWORD": {"hub"},
        "REDIS_HEALTH_PASSWORD": {"redis"},
        "REDIS_ADMIN_PASSWORD": set(),
    } | {f"REDIS_{service.upper()}_PASSWORD": {service} for service in services}


def test_a_secret_without_a_line_is_made_anew_and_the_others_stay(folder: Path) -> None:
    run(folder)
    path = folder / "secrets/all.env"
    before = env_file.read(path)
    users = (folder / "secrets/users.acl").read_text()
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if "REDIS_GATEWAY" not in line))
    assert run(folder) == 0
    after = env_file.read(path)
    assert {name for name in before if before[name] != after[name]} == {"REDIS_GATEWAY_PASSWORD"}
    assert (folder / "secrets/users.acl").read_text() != users
    assert env_file.read(folder / "secrets/redis.env")["USERS_SHA256"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("SERVICE_TOKEN='short'", "SERVICE_TOKEN has fewer than 32 characters"),
        ("HUB_API_TOKEN='" + "a b" * 20 + "'", "HUB_API_TOKEN has fewer than 32 characters, or others than letters"),
        ("INSTALLATION_ID=''", "INSTALLATION_ID has other characters than a-z and 0-9, or none."),
        ("INSTALLATION_ID='a*'", "INSTALLATION_ID has other characters than a-z and 0-9, or none."),
    ],
)
def test_a_secret_that_can_not_work_is_refused_without_being_shown(
    folder: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "secrets").mkdir()
    (folder / "secrets/all.env").write_text(line + "\n")
    assert run(folder) == 1
    said = capsys.readouterr().err
    assert f"secrets/all.env: {sentence}" in said
    assert "short" not in said.replace("shorter", "")
    assert (folder / "secrets/all.env").read_text() == line + "\n"


def test_the_login_for_a_registry_reaches_the_builder_and_the_hub(folder: Path) -> None:
    run(folder)
    add_lines(
        folder,
        "COMPOSE_PROFILES=",
        "BINDERY_IMAGE_PREFIX=registry.example.org:5000/binder/",
        "BINDERY_REGISTRY_URL=",
        "BINDERY_REGISTRY_USERNAME=ann",
        "BINDERY_REGISTRY_PASSWORD='it$ a # secret\"'",
    )
    assert run(folder) == 0
    for container in ("builder", "worker", "hub"):
        config = json.loads(env_file.read(folder / f"secrets/{container}.env")["BINDERY_DOCKER_AUTH_CONFIG"])
        [(host, entry)] = config["auths"].items()
        assert (host, base64.b64decode(entry["auth"])) == ("registry.example.org:5000", b'ann:it$ a # secret"')
    having = {path.stem for path in (folder / "secrets").iterdir() if "AUTH_CONFIG" in path.read_text()}
    assert having == {"builder", "worker", "hub"}

    add_lines(folder, "BINDERY_IMAGE_PREFIX=my-org/r2d-")
    run(folder)
    assert "https://index.docker.io/v1/" in (folder / "secrets/builder.env").read_text()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["BINDERY_SERVERS_URL=http://127.0.0.1:9000/"], "have the same host, 127.0.0.1"),
        (["BINDERY_PUBLIC_URL=bindery.example.org"], "BINDERY_PUBLIC_URL=bindery.example.org is not an address"),
        (["COMPOSE_PROFILES=registry,tls"], "BINDERY_PUBLIC_URL=http://127.0.0.1:8585 is not https"),
        (["COMPOSE_PROFILES="], "There is no registry: add registry to COMPOSE_PROFILES"),
        (
            ["BINDERY_IMAGE_PREFIX=registry.example.org/x/"],
            "Images go to registry.example.org, but would be looked for",
        ),
        (["BINDERY_IMAGE_PREFIX=my-org/x-"], "Images go to Docker Hub, but would be looked for"),
        (["BINDERY_REGISTRY_USERNAME=ann"], "Set both BINDERY_REGISTRY_USERNAME and BINDERY_REGISTRY_PASSWORD"),
        (["DOCKER_GID=987654"], "set DOCKER_GID="),
    ],
)
def test_settings_that_can_not_work_are_told_in_a_sentence(
    folder: Path, lines: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder)
    add_lines(folder, *lines)
    capsys.readouterr()
    assert run(folder) == 1
    [said] = [line for line in capsys.readouterr().err.splitlines() if sentence in line]
    assert said.endswith(".")


def test_an_engine_that_is_not_there_is_told_and_the_secrets_are_made_all_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, DOCKER_HOST=f"unix://{folder}/none.sock") == 1
    assert f"{folder}/none.sock, can't be seen (No such file or directory): start Docker" in capsys.readouterr().err
    assert (folder / "secrets/all.env").exists()
    assert env_file.read(folder / ".env")["DOCKER_GID"] == ""


def test_settings_of_the_environment_count_as_they_do_for_compose(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, COMPOSE_PROFILES="") == 1
    assert "There is no registry" in capsys.readouterr().err


def test_containers_can_read_the_files_of_a_checkout_made_with_a_strict_umask(folder: Path) -> None:
    for name in MOUNTED_FILES:
        (folder / name).chmod(0o600)
    assert run(folder) == 0
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in MOUNTED_FILES} == {0o604}


@pytest.mark.parametrize("name", ["BINDERY_SETTINGS_FILE", "BINDERY_HUB_CONFIG_FILE"])
def test_a_file_of_the_operators_own_must_be_there_and_readable(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run(folder)
    add_lines(folder, f"{name}=./mine")
    assert run(folder) == 1
    assert f"{name} names {folder}/mine, which is no file" in capsys.readouterr().err
    (folder / "mine").touch(0o640)
    assert run(folder) == 1
    assert f"run chmod o+r {folder}/mine" in capsys.readouterr().err
    (folder / "mine").chmod(0o644)
    assert run(folder) == 0

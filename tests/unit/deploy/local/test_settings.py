"""Settings of the embedded stack, and the messages for those that make no sense."""

import json
import stat
from pathlib import Path

import pytest

from deploy.local.installation import open_installation
from deploy.local.run_record import lock
from deploy.local.settings import CHECKOUT, Settings, StartupError, read_settings
from deploy.redis.users import USERS


def test_defaults() -> None:
    settings = read_settings()
    assert (settings.url, settings.data_dir) == ("http://127.0.0.1:8585", CHECKOUT / ".bindery")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BINDERY_HOST", "192.168.1.5", "BINDERY_HOST: 192.168.1.5 is not an IPv4 loopback address"),
        ("BINDERY_HOST", "example.org", "BINDERY_HOST: example.org is not an IPv4 loopback address"),
        ("BINDERY_PORT", "http", "BINDERY_PORT: "),
        ("BINDERY_PORT", "70000", "BINDERY_PORT: "),
        ("BINDERY_WORKERS", "0", "BINDERY_WORKERS: "),
        ("BINDERY_START_TOKEN", "short", "BINDERY_START_TOKEN: a start token has 16 to 256 letters, digits, dots,"),
        ("BINDERY_START_TOKEN", "sixteen or more & spaces", "BINDERY_START_TOKEN: a start token has 16 to 256 letters"),
        ("BINDERY_ALLOWED_ORIGINS", "*", "BINDERY_ALLOWED_ORIGINS: `*` would let every web site that you visit run"),
        ("BINDERY_ALLOWED_ORIGINS", "https://a.org, *", "BINDERY_ALLOWED_ORIGINS: `*` would let every web site that"),
        (
            "BINDERY_ALLOWED_ORIGINS",
            "a.org",
            "BINDERY_ALLOWED_ORIGINS: 'a.org' is not an origin: write scheme and host",
        ),
        ("BINDERY_ALLOWED_ORIGINS", "https://*.org", "BINDERY_ALLOWED_ORIGINS: 'https://*.org' is not an origin"),
    ],
)
def test_an_invalid_value_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as raised:
        read_settings()
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert name != "BINDERY_START_TOKEN" or value not in str(raised.value)


def test_named_sites_and_a_token_of_ones_own_or_none_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BINDERY_ALLOWED_ORIGINS", "https://a.org/, http://localhost:3000,")
    assert read_settings().start_token != read_settings().start_token
    assert len(read_settings().start_token.get_secret_value()) == 32
    for token in ("", "sixteen-or-more.", "0123456789abcdef"):
        monkeypatch.setenv("BINDERY_START_TOKEN", token)
        assert read_settings().start_token.get_secret_value() == token


@pytest.mark.parametrize(
    ("executor", "spawner", "servers_by"),
    [
        ("process", "", "process"),
        ("docker", "", "docker"),
        ("kubernetes", "", "kubernetes"),
        ("docker", "kubernetes", "kubernetes"),
        ("somebody-elses", "docker", "docker"),
    ],
)
def test_servers_are_run_by_what_can_start_the_images(executor: str, spawner: str, servers_by: str) -> None:
    assert Settings(executor=executor, spawner=spawner).servers_by == servers_by


@pytest.mark.parametrize(
    ("executor", "spawner", "message"),
    [
        ("process", "docker", "BINDERY_SPAWNER=docker can't start what BINDERY_EXECUTOR=process builds"),
        ("docker", "process", "BINDERY_SPAWNER=process can't start what BINDERY_EXECUTOR=docker builds"),
        ("docker", "podman", "BINDERY_SPAWNER is 'podman': set it to one of process, docker, kubernetes"),
        ("somebody-elses", "", "BINDERY_SPAWNER is 'somebody-elses': set it to one of"),
    ],
)
def test_a_spawner_that_could_start_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, executor: str, spawner: str, message: str
) -> None:
    monkeypatch.setenv("BINDERY_EXECUTOR", executor)
    monkeypatch.setenv("BINDERY_SPAWNER", spawner)
    with pytest.raises(StartupError) as raised:
        read_settings()
    assert str(raised.value).startswith(message)


def test_nobody_else_may_enter_the_data_folder_whoever_made_it_and_how(tmp_path: Path) -> None:
    """The lock's folder is made first, and its parents with it; a folder of the user's may stand open."""
    (tmp_path / "open").mkdir(mode=0o755)
    for data_dir in (tmp_path / "open", tmp_path / "made" / "new"):
        with lock(data_dir / "run"):
            open_installation(data_dir)
        assert data_dir.stat().st_mode & 0o777 == 0o700
        data_dir.chmod(0o755)
        open_installation(data_dir)
        assert data_dir.stat().st_mode & 0o777 == 0o700


def test_a_data_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", chmod)
    with pytest.raises(StartupError, match="belongs to another user: point BINDERY_DATA_DIR at a folder of your own"):
        open_installation(tmp_path)


def test_an_installation_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    installation = open_installation(tmp_path / "data")
    assert len(installation.installation_id) == 12
    assert open_installation(tmp_path / "data") == installation
    assert stat.S_IMODE((tmp_path / "data" / "installation.json").stat().st_mode) == 0o600
    assert installation.installation_secret not in repr(installation)


def test_an_installation_of_an_earlier_release_gets_a_password_for_each_user_of_redis(tmp_path: Path) -> None:
    installation = open_installation(tmp_path)
    path = tmp_path / "installation.json"
    before = {name: value for name, value in json.loads(path.read_text()).items() if not name.startswith("redis_")}
    path.write_text(json.dumps(before | {"redis_password": "a" * 64}))
    whole = open_installation(tmp_path)
    assert whole.installation_id == installation.installation_id
    passwords = {whole.redis_password(user) for user in USERS}
    assert len(passwords) == len(USERS)
    assert passwords.isdisjoint({"a" * 64, *before.values()})
    assert open_installation(tmp_path) == whole
    assert json.loads(path.read_text())["redis_password"] == "a" * 64  # so that the release before can be gone back to


def test_a_damaged_installation_is_named(tmp_path: Path) -> None:
    (tmp_path / "installation.json").write_text("{")
    with pytest.raises(StartupError, match=r"installation\.json can't be read"):
        open_installation(tmp_path)


def test_a_part_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_PART_ENVIRONMENT", '{"worker-2": ["X"]}')
    with pytest.raises(StartupError) as raised:
        read_settings()
    assert str(raised.value) == (
        "BINDERY_PART_ENVIRONMENT: there is no component 'worker-2': use one of redis, proxy, hub, culler, resolver, "
        "builder, worker, launcher, gateway"
    )

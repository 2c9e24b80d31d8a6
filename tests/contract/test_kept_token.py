"""Real Jupyters, of today and of the time of Notebook 6, keep their launch's token whatever a repository configures."""

# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tornado.web import HTTPError, create_signed_value

from deploy.jupyterhub.kept_token import FILES, OPEN, is_answering, with_configuration
from tests.support.hub_fixtures import environment  # noqa: F401
from tests.support.real_hub import free_port, make_environment
from tests.support.spawners import message_of

TOKEN = "the-launchs-token"
HASHED = "sha1:67c9e60bb8b6:9ffede0825894254b2e042ea597d771089e11aed"
SECTIONS = ("ServerApp", "NotebookApp", "IdentityProvider", "PasswordIdentityProvider")
OPEN_CLASS = """
try:
    from jupyter_server.auth.identity import PasswordIdentityProvider, User
except ImportError:
    pass
else:
    class Anybody(PasswordIdentityProvider):
        def get_user(self, handler):
            return User("anybody")
    c.ServerApp.identity_provider_class = Anybody
"""
OPEN_HANDLER = """
for name, package in (("ServerApp", "jupyter_server"), ("NotebookApp", "notebook")):
    try:
        login = __import__(package + ".auth.login", fromlist=["login"])
    except ImportError:
        continue
    class AnyHandler(getattr(login, "LegacyLoginHandler", login.LoginHandler)):
        @classmethod
        def get_user(cls, handler):
            return "anybody"
    c[name].login_handler_class = AnyHandler
"""


def python(token: str, password: str = "") -> str:
    """A configuration that sets the token, and the password's hash, under every name there is."""
    lines = [f"c.{section}.token = {token!r}" for section in SECTIONS]
    lines += [f"c.{section}.password = {password!r}" for section in ("ServerApp", "NotebookApp")]
    return "\n".join([*lines, f"c.PasswordIdentityProvider.hashed_password = {password!r}\n"])


NONE = json.dumps({section: {"token": "", "password": ""} for section in SECTIONS})
CONFIGURED = {
    "none": {
        **{f"jupyter_{name}config.py": python("") + OPEN_CLASS for name in ("", "server_", "notebook_", "lab_")},
        **{f"jupyter_{name}config.json": NONE for name in ("server_", "notebook_")},
        "jupyter_server_config.d/ours.json": NONE,
    },
    "another": {
        name: python("x", HASHED)
        + OPEN_HANDLER
        + "c.ServerApp.password_required = c.NotebookApp.password_required = True\n"
        for name in FILES
    },
}
"""What a repository may have below ~/.jupyter."""


@pytest.fixture(scope="module")
def old_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("old-environment") / "env"
    return make_environment(target, "notebook<7", "jupyter-server<2", "setuptools<80")


@asynccontextmanager
async def jupyter(command: list[str], home: Path, files: dict[str, str]) -> AsyncIterator[str]:
    """A server as a container of ours runs it, with `files` in its ~/.jupyter; yields its address."""
    for name, text in files.items():
        (home / ".jupyter" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / ".jupyter" / name).write_text(text)
    port = free_port()
    settings = {"ip": "127.0.0.1", "port": port, "base_url": "/user/ann/", "open_browser": False, "allow_root": True}
    arguments = [f"--{app}.{name}={value}" for app in ("ServerApp", "NotebookApp") for name, value in settings.items()]
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "JUPYTER_TOKEN": TOKEN}
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, *arguments, cwd=home, env=env, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}/user/ann/"
        assert process.returncode is None, (home / "log").read_text()[-3000:]
    finally:
        if process.returncode is None:
            process.kill()  # an old Jupyter may not end by SIGTERM, and has no kernel here
        await process.wait()


async def until_answers(url: str) -> None:
    async with asyncio.timeout(60):
        while not await is_answering(url, TOKEN):
            await asyncio.sleep(0.1)


async def code_for(url: str, token: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{url}api/contents?token={token}")).status_code


programs = pytest.mark.parametrize(
    "program", ["environment/jupyter-lab", "old_environment/jupyter-notebook", "old_environment/jupyter-server"]
)


@programs
async def test_a_repositorys_configuration_neither_opens_its_server_nor_gives_it_another_token(
    program: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixture, _, name = program.partition("/")
    command = with_configuration('exec "$@"', str(request.getfixturevalue(fixture) / "bin" / name))

    async def codes(case: str) -> list[int]:
        home = tmp_path / case
        home.mkdir()
        async with jupyter(command, home, CONFIGURED[case]) as url:
            await until_answers(url)
            return [await code_for(url, token) for token in (TOKEN, "", "x")]

    codes_of_cases = await asyncio.gather(*map(codes, CONFIGURED))
    assert dict(zip(CONFIGURED, codes_of_cases, strict=True)) == {case: [200, 403, 403] for case in CONFIGURED}


@programs
async def test_a_login_is_not_signed_with_a_secret_from_a_repository(
    program: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixture, _, name = program.partition("/")
    command = with_configuration('exec "$@"', str(request.getfixturevalue(fixture) / "bin" / name))
    apps = ("ServerApp", "NotebookApp", "LabApp")
    committed = "".join(f"c.{app}.cookie_secret = b'in public'\n" for app in apps)
    async with jupyter(command, tmp_path, dict.fromkeys(FILES, committed)) as url:
        await until_answers(url)
        cookie = re.sub("[^A-Za-z0-9]", "-", f"username-{httpx.URL(url).netloc.decode()}")
        user = dict.fromkeys(("username", "name", "display_name", "initials"), "a") | {
            "color": None,
            "avatar_url": None,
        }
        users = ("anybody", json.dumps(user))
        async with httpx.AsyncClient(trust_env=False) as client:
            codes = [
                (await client.get(f"{url}api/contents", headers={"Cookie": f"{cookie}={signed.decode()}"})).status_code
                for signed in (create_signed_value("in public", cookie, user) for user in users)
            ]
    assert codes == [403, 403]


async def test_other_settings_of_a_repository_stay_in_force(environment: Path, tmp_path: Path) -> None:
    mine = {"jupyter_server_config.py": "c.ServerApp.tornado_settings = {'headers': {'X-Mine': 'here'}}\n"}
    async with jupyter(
        with_configuration('exec "$@"', str(environment / "bin" / "jupyter-server")), tmp_path, mine
    ) as url:
        await until_answers(url)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}api")).headers["X-Mine"] == "here"


@pytest.mark.parametrize(("code", "body"), [(200, '{"version": 1}'), (200, "hello"), (404, ""), (401, ""), (403, "{}")])
async def test_other_answers_of_a_repositorys_server_are_accepted(code: int, body: str) -> None:
    async with serving({"": (code, body)}) as url:
        assert await is_answering(url, TOKEN)


async def test_a_jupyter_is_asked_with_its_token_only_after_it_refused_to_answer_without() -> None:
    requests: list[str] = []
    status = '{"kernels": 0, "last_activity": ""}'
    async with serving({"/api": (200, '{"version": "2"}'), "/api/status": (200, status)}, requests) as url:
        with pytest.raises(HTTPError) as raised:
            await is_answering(url, TOKEN)
        assert message_of(raised.value) == OPEN
        assert await is_answering(url, "")  # it asks the hub
    assert TOKEN not in "".join(requests)


async def test_a_server_that_is_not_up_does_not_answer() -> None:
    assert not await is_answering(f"http://127.0.0.1:{free_port()}/", TOKEN)


@asynccontextmanager
async def serving(answers: dict[str, tuple[int, str]], requests: list[str] | None = None) -> AsyncIterator[str]:
    """A server that says at the end of each path what is said of it, or of ""; yields its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if requests is not None:
            requests.append(head)
        path = head.split()[1]
        code, body = next((answer for end, answer in reversed(answers.items()) if path.endswith(end)), (404, ""))
        writer.write(f"HTTP/1.1 {code} Any\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/user/ann"

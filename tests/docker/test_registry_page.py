"""The commands of docs/registry.md do what the page says, at a real registry."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.docker_registry import Registry
from tests.support.paths import CHECKOUT
from tests.support.tls import certificate_for

PAGE = (CHECKOUT / "docs" / "registry.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
OUTPUTS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


def run(commands: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", commands], cwd=CHECKOUT, env={"PATH": "/usr/bin:/bin"} | environ,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_every_command_of_the_page_prints_what_stands_there(tmp_path: Path) -> None:
    authority, _ = certificate_for("localhost", tmp_path)
    login = base64.b64encode(b"bindery:secret").decode()
    with Registry(tmp_path, users={"bindery": "secret"}, tls=tmp_path) as registry:
        digest = registry.push("binder/r2d-example:1", headers={"Authorization": f"Basic {login}"})
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {registry.address: {"username": "bindery", "password": "secret"}}})
        )

        def localize(text: str) -> str:
            text = text.replace("registry.example.org", registry.address).replace("sha256:…", digest)
            return text.replace("/etc/bindery/docker", str(tmp_path))

        trusting = {"BINDERY_REGISTRY_CA_FILE": str(authority)}
        nobody_builds = run(localize(COMMANDS[0]), trusting)
        assert (nobody_builds.stdout, nobody_builds.returncode) == (localize(OUTPUTS[0]), 1)
        process = run(localize(COMMANDS[0] + COMMANDS[1]), trusting)
        assert (process.stdout, process.returncode) == (localize(OUTPUTS[0] + OUTPUTS[1]), 0)
        refusal = run(localize(COMMANDS[0]), {})
        assert "its certificate is not trusted (self-signed certificate)" in refusal.stdout
        assert refusal.returncode == 2
    assert len(COMMANDS) == len(OUTPUTS) == 2


def test_the_log_names_the_refused_login_or_says_why_none_was_sent(tmp_path: Path) -> None:
    with Registry(tmp_path, users={"bindery": "right"}) as registry:
        variables = {"BINDERY_IMAGE_PREFIX": f"{registry.address}/p/", "BINDERY_REGISTRY_INSECURE": "true"}
        variables["BINDERY_DOCKER_CONFIG"] = str(tmp_path)
        for content, sentence in (
            ({"auths": {registry.address: {"username": "bindery", "password": "wrong"}}}, "login=bindery"),
            ({"credHelpers": {registry.address: "gcloud"}}, "docker-credential-gcloud, which is not run"),
        ):
            (tmp_path / "config.json").write_text(json.dumps(content))
            process = run(".venv/bin/python -m services.builder.registry", variables)
            assert process.returncode == 2
            assert "registry_refused" in process.stderr
            assert sentence in process.stderr
            assert not re.search("bindery|gcloud|config.json", process.stdout), "users read this sentence"
            assert "wrong" not in process.stdout + process.stderr


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"BINDERY_IMAGE_PREFIX": "gcr.io//"}, "BINDERY_IMAGE_PREFIX 'gcr.io//' can't begin an image's name"),
        ({"BINDERY_REGISTRY_URL": "nowhere:x"}, "BINDERY_REGISTRY_URL must be like"),
        (
            {"BINDERY_IMAGE_PREFIX": "127.0.0.1:1/p/"},
            "The image registry 127.0.0.1:1 can't be asked: connection refused.",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(environ: dict[str, str], sentence: str) -> None:
    process = run(".venv/bin/python -m services.builder.registry", environ)
    assert sentence in process.stdout
    assert (process.returncode, process.stderr) == (2, "")

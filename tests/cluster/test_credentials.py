"""Credentials reach the builds that need them, by a Secret of the Job's own, and stand nowhere in clear."""

import base64
import hashlib
import json
from pathlib import Path

from tests.cluster.conftest import Start
from tests.support.cluster import Namespace
from tests.support.docker_registry import Registry
from tests.support.engine import REGISTRY, Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge

URL = "https://example.org/org/repo"
KINDS = ("jobs", "pods", "secrets", "configmaps")
GIT = "git-pass-5c1e"
PUSH = "push-pass-9d27"
AUTH = base64.b64encode(f"pusher:{PUSH}".encode()).decode()


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def config_json(folder: Path, registry: str) -> Path:
    """Docker's configuration with the login of the one who may push."""
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {registry: {"auth": AUTH}}}))
    return path


def test_credentials_of_git_and_of_the_push_reach_the_job_by_its_own_secret_and_stand_nowhere_in_clear(
    start_noop: Start, namespace: Namespace, tmp_path: Path
) -> None:
    builders = start_noop(
        git_credentials=json.dumps({"example.org": f"username=reader\\npassword={GIT}"}),
        docker_config=config_json(tmp_path, REGISTRY),
        kubernetes_engine_credentials=True,
    )
    build_id = builders.request_build(URL, "secrets.credentials-1.sleep-5")["build_id"]
    builders.until_logged(build_id, "those were 3 lines")
    [job] = namespace.objects("jobs", build_id=build_id)
    [secret] = namespace.objects("secrets", build_id=build_id)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    public_text = json.dumps(namespace.objects("jobs", "pods", build_id=build_id))
    public_text += namespace.kubectl("get", "events", "-o", "json")

    assert builders.outcome(build_id)["state"] == "built"
    log = builders.log(build_id)
    engine = json.dumps({"registry": REGISTRY, "username": "pusher", "password": PUSH})
    assert f"git at example.org: {hashed(GIT)}" in log
    assert "git at elsewhere.example.org: none" in log
    assert f"docker: {hashed(AUTH)}" in log
    assert f"repo2docker: {hashed(engine)}" in log
    for part in (*builders.parts, None):
        text = part.log() if part else public_text + log
        assert not any(clear in text for clear in (GIT, PUSH, AUTH))
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")


def test_a_repository_that_names_variables_is_told_as_it_is_and_learns_no_secret(start_noop: Start) -> None:
    """The kubelet puts variables' values in the place of `$(NAME)`, those from Secrets included."""
    builders = start_noop(git_credentials=json.dumps({"example.org": f"username=reader\\npassword={GIT}"}))
    url = "https://example.org/$(GIT_TERMINAL_PROMPT)/$(GIT_CREDENTIAL_ENV)/$$(HOME)"
    build_id = builders.request_build(url, "variables.told-1")["build_id"]
    assert builders.outcome(build_id)["state"] == "built", builders.log(build_id)
    [message] = [line for line in builders.log(build_id).splitlines() if line.startswith("this was told: ")]
    arguments = json.loads(message.partition(": ")[2])
    assert arguments[-2:] == ["--", url]
    assert f"--label=org.opencontainers.image.source={url}" in arguments
    assert GIT not in builders.log(build_id)


def test_a_secret_that_a_build_says_all_the_same_is_blanked_in_its_log(start_noop: Start) -> None:
    builders = start_noop(git_credentials=json.dumps({"example.org": f"username=reader\\npassword={GIT}"}))
    build_id = builders.request_build(URL, "leaks.leak-1")["build_id"]
    assert builders.outcome(build_id)["state"] == "built", builders.log(build_id)
    assert "this leaks: [secret]" in builders.log(build_id)
    assert GIT not in builders.log(build_id)


def test_the_builders_own_login_pushes_from_a_job_without_a_secret_of_the_operators(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder, users={"pusher": PUSH}) as registry:
        prefix = f"{registry.address}/builds/"
        builders = start(image_prefix=prefix, docker_config=config_json(tmp_path, registry.address))
        sha = forge.create_repo("org", "own-login", {"Dockerfile": f"FROM {the_engine.base}\nLABEL a=own\n"})
        build_id = builders.request_build(f"{forge.url}/org/own-login", sha)["build_id"]
        build = builders.outcome(build_id)
        assert build["state"] == "built", builders.log(build_id)
        assert build["digest"]
        assert not any(clear in builders.log(build_id) for clear in (PUSH, AUTH))
        until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")

"""`python3 -m deploy.compose`: make `.env` and the folder `secrets` for docker-compose.yml.

`make compose-secrets` runs it. Secrets that exist stay, so it may be run at any time: after an upgrade, or a change of
`.env`. It needs Python's own library alone.
"""

import argparse
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.compose import env_file
from deploy.compose.checks import problems, unreadable_files
from deploy.compose.service_secrets import SecretsError, completed, environments, redis_users, registry_login

CHECKOUT = Path(__file__).resolve().parents[2]
USUAL_SOCKET = "/var/run/docker.sock"
MOUNTED_FILES = tuple(
    f"deploy/compose/{name}" for name in ("hosts.yaml", "hub_config.py", "redis.conf", "registry.yaml", "settings.yaml")
)
"""Files of the checkout that containers read, in docker-compose.yml."""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Write the files, and return 1 if something keeps Compose from starting; then say what."""
    parser = argparse.ArgumentParser(prog="python3 -m deploy.compose", description=__doc__)
    parser.add_argument("--folder", type=Path, default=CHECKOUT, help="where docker-compose.yml is")
    folder = parser.parse_args(arguments).folder

    found = prepare_env(folder, environ)
    env = env_file.read(folder / ".env")
    env |= {name: value for name, value in environ.items() if name in env or name.startswith(("BINDERY_", "COMPOSE_"))}
    try:
        write_secrets(folder / "secrets", env)
    except SecretsError as error:
        found.append(f"secrets/all.env: {error}")
    let_containers_read(folder)
    found += problems(env)
    found += unreadable_files(folder, env)

    for problem in found:
        sys.stderr.write(f"{problem.removesuffix('.')}.\n")
    if not found:
        sys.stdout.write("The secrets are in the folder secrets, and the settings in .env.\n")
    return int(bool(found))


def prepare_env(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Make `.env`, unless it is there, and add the engine's socket and the socket's group; return what is missing."""
    path = folder / ".env"
    text = (path if path.exists() else folder / ".env.example").read_text(encoding="utf-8")
    env = env_file.parse(text)
    in_use = environ.get("DOCKER_HOST", "").removeprefix("unix://") or USUAL_SOCKET
    socket = env.get("BINDERY_DOCKER_SOCKET") or (in_use if in_use.startswith("/") else USUAL_SOCKET)
    if socket != (env.get("BINDERY_DOCKER_SOCKET") or USUAL_SOCKET):
        text = env_file.with_variable(text, "BINDERY_DOCKER_SOCKET", socket)

    missing = []
    try:
        group = str(Path(socket).stat().st_gid)
    except OSError as error:
        group = ""
        if not env.get("DOCKER_GID"):
            missing.append(
                f"The socket of the container engine, {socket}, can't be seen ({error.strerror}): start Docker, or "
                "name its socket in .env, as BINDERY_DOCKER_SOCKET=/path, and run this again"
            )
    if group and not env.get("DOCKER_GID"):
        text = env_file.with_variable(text, "DOCKER_GID", group)
    elif group and env["DOCKER_GID"] != group:
        missing.append(
            f"{socket} belongs to the group {group}: set DOCKER_GID={group} in .env, not {env['DOCKER_GID']}"
        )

    env_file.write(path, text)
    return missing


def write_secrets(folder: Path, env: Mapping[str, str]) -> None:
    """Complete the secrets in `all.env`, and write what each container gets of them. Raise `SecretsError`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    values = completed(env_file.read(folder / "all.env"))
    login = registry_login(
        env.get("BINDERY_IMAGE_PREFIX", ""),
        env.get("BINDERY_REGISTRY_USERNAME", ""),
        env.get("BINDERY_REGISTRY_PASSWORD", ""),
    )

    env_file.write(folder / "all.env", env_file.render(values))
    for container, variables in environments(values, login).items():
        env_file.write(folder / f"{container}.env", env_file.render(variables))
    env_file.write(folder / "users.acl", redis_users(values), mode=0o644)


def let_containers_read(folder: Path) -> None:
    """Let everybody read the files of the checkout that containers have: git keeps others out by a umask of 027."""
    for name in MOUNTED_FILES:
        path = folder / name
        path.chmod(path.stat().st_mode | stat.S_IROTH)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m deploy.redis`: write the file of Redis's users for an installation, and the address for each user."""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.redis.users import USERS, redis_user_name, users_file

VARIABLE = "BINDERY_REDIS_URL"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `users.acl` and an environment file for each user. Passwords that exist already stay."""
    parser = argparse.ArgumentParser(prog="python -m deploy.redis", description=__doc__)
    parser.add_argument("--prefix", required=True, help="BINDERY_REDIS_PREFIX:BINDERY_INSTALLATION_ID")
    parser.add_argument("--url", required=True, help="address of Redis: redis://{user}:{password}@redis.example.org/0")
    parser.add_argument("--name", default="bindery", help="beginning of the users' names")
    parser.add_argument("--folder", type=Path, required=True, help="folder for the files; it will hold the passwords")
    options = parser.parse_args(arguments)

    folder: Path = options.folder
    if "{user}" not in options.url or "{password}" not in options.url:
        parser.error("--url needs {user} and {password} in it: redis://{user}:{password}@redis.example.org/0")

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    passwords = {user: _password_in(folder / f"{user}.env") or secrets.token_hex(32) for user in USERS}
    try:
        users = users_file(options.prefix, passwords, options.name)
    except ValueError as error:
        parser.error(str(error))

    for user, password in passwords.items():
        url = options.url.replace("{user}", redis_user_name(user, options.name)).replace("{password}", password)
        _write(folder / f"{user}.env", f"{VARIABLE}={url}\n")
    _write(folder / "users.acl", users)

    sys.stdout.write(f"{folder / 'users.acl'} is for Redis (aclfile), {folder}/<service>.env for each service\n")
    return 0


def _password_in(path: Path) -> str:
    """Return the password that an earlier run has written, or nothing."""
    if not path.exists():
        return ""

    return unquote(urlsplit(path.read_text().strip().removeprefix(f"{VARIABLE}=")).password or "")


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())

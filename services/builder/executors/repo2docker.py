"""repo2docker as a program: its command line, its configuration, its environment, its output.

Shared by the executors that run it in a container. The forms of its output are those of jupyter-repo2docker 2026.4.0,
which builds and pushes with `docker buildx`; `failure_classifier` determines how an execution ended.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from urllib.parse import urlsplit

from services.builder.executors.base import Attempt, Line
from services.builder.settings import BuilderSettings
from services.common.git.forge_settings import git_credentials
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential

PROGRAM = "jupyter-repo2docker"
CONTENT_PROVIDERS = frozenset({"CKAN", "Dataverse", "Figshare", "Git", "Hydroshare", "Mercurial", "Swhid", "Zenodo"})
"""The classes of `repo2docker.contentproviders` that may fetch. `Local` must not: it would build folders of its own
container."""

RAW_FACTOR = 8
"""Of a line of output only RAW_FACTOR x `build_line_max_bytes` bytes are read: JSON escapes make text longer."""

GUARD = files("services.builder.executors").joinpath("repo2docker_guard.py").read_text()
"""Source of the check that repo2docker runs on a checkout: a module of its own, so it is linted and tested."""

_PHASES = frozenset({"fetching", "building", "pushing", "failed"})
_EXPORTS = (
    "exporting ", "writing image ", "naming to ", "unpacking to ", "pushing ", "sending tarball", "preparing layers",
)  # fmt: skip
_CREDENTIAL = "GIT_CREDENTIAL_ENV"
_SECRET_FIELDS = frozenset({"password", "credential", "oauth_refresh_token"})
"""The secret ones among the fields of a git credential helper (git-credential(1))."""

Literal = Callable[[str], str]
"""Escapes a text so that repo2docker receives it unchanged; Kubernetes would expand `$(NAME)` in it."""


def unchanged(text: str) -> str:
    """Return the text as it is: the `Literal` of a platform without expansion, and a redaction without secrets."""
    return text


@dataclass(frozen=True)
class Environment:
    """Environment variables of repo2docker. The secret ones appear in no command line and no specification in clear."""

    plain: dict[str, str] = field(default_factory=dict)
    secret: dict[str, str] = field(default_factory=dict, repr=False)


def arguments(
    attempt: Attempt, settings: BuilderSettings, *, config_path: str, literal: Literal = unchanged
) -> list[str]:
    """Return the arguments of `PROGRAM`, as BinderHub gives them; `config_path` is the file with `config_text`.

    The repository comes after `--`, so it can't be an option. Everything but the operator's `repo2docker_extra_args`
    is escaped by `literal`, because authors choose it. Raise `BinderyError("bad_spec")` for a repository or ref that
    git would take for an option.
    """
    for text in (attempt.repo_url, attempt.ref):
        if text.startswith("-") or "\0" in text:
            raise BinderyError("bad_spec", "Neither the repository nor the ref may begin with a dash.")

    options = [
        f"--ref={attempt.ref}",
        f"--image-name={attempt.image}",
        "--no-clean",
        "--no-run",
        "--json-logs",
        f"--user-name={settings.build_user_name}",
        f"--user-id={settings.build_user_id}",
        f"--config={config_path}",
    ]
    if settings.repo2docker_appendix:
        options.append(f"--appendix={settings.repo2docker_appendix}")
    if settings.build_push:
        options.append("--push")
    options += [f"--label={name}={value}" for name, value in attempt.labels]

    extra_options = shlex.split(settings.repo2docker_extra_args)
    return [*map(literal, options), *extra_options, "--", literal(attempt.repo_url)]


def config_text(attempt: Attempt, settings: BuilderSettings) -> str:
    """Return the configuration file.

    Only the content provider that the resolver named may fetch, and `repo2docker_guard` checks what it fetches before
    it is read. The other providers would contact hosts of their own to find out whether the repository is theirs
    (Dataverse downloads a list, since 2025.12). Raise `BinderyError("internal")` for a provider that repo2docker does
    not have.
    """
    if attempt.content_provider not in CONTENT_PROVIDERS:
        raise BinderyError("internal", f"repo2docker has no content provider {attempt.content_provider!r}.")

    name = attempt.content_provider
    lines = [
        GUARD,
        f"from repo2docker.contentproviders import {name} as _Provider",
        "",
        "",
        f"class {name}(_Provider):",
        "    def fetch(self, spec, output_dir, yield_output=False):",
        "        yield from super().fetch(spec, output_dir, yield_output=yield_output)",
        "        refuse_links_outside(output_dir)",
        "",
        "",
        f"c.Repo2Docker.content_providers = [{name}]",
    ]
    if not settings.build_push:  # without it, a builder of buildx's own would keep the image to itself
        lines.append('c.DockerEngine.extra_buildx_build_args = ["--load"]')
    return "\n".join([*lines, settings.repo2docker_extra_config]).rstrip() + "\n"


def environment(attempt: Attempt, settings: BuilderSettings, *, literal: Literal = unchanged) -> Environment:
    """Return repo2docker's environment: the operator's, and the credential for the repository.

    That is the attempt's, or else what `git_credentials` has for the repository's host. Git is configured to use it for
    its scope alone, whatever helper the image has set up: a submodule elsewhere gets none. Everything but the
    operator's variables is escaped by `literal`. Raise `BinderyError("internal")` if the setting is not a JSON object.
    """
    plain = {"GIT_TERMINAL_PROMPT": "0", "PYTHONUNBUFFERED": "1"} | settings.repo2docker_extra_envs
    parts = urlsplit(attempt.repo_url)
    host = parts.netloc.rpartition("@")[2]
    scopes = [f"{parts.scheme}://{host}"]
    text = git_credentials(settings).get(host.lower())
    if credential := attempt.credential:
        scopes = credential.scopes
        text = _helper_text(credential)
    if not text:
        return Environment(plain)

    helper = f'!f() {{ test "$1" != get || printf \'%b\\n\' "${_CREDENTIAL}"; }}; f'
    helpers = [("credential.helper", ""), *((f"credential.{scope}.helper", helper) for scope in scopes)]
    plain["GIT_CONFIG_COUNT"] = str(len(helpers))
    for number, (key, value) in enumerate(helpers):
        plain |= {f"GIT_CONFIG_KEY_{number}": literal(key), f"GIT_CONFIG_VALUE_{number}": literal(value)}
    return Environment(plain, {_CREDENTIAL: text})


def _helper_text(credential: ScopedCredential) -> str:
    """Return a credential as a git credential helper prints it, with escapes for printf's `%b`."""
    values = {"username": credential.username, "password": credential.password}
    return "\\n".join(f"{name}={value}".replace("\\", "\\\\") for name, value in values.items())


def git_secrets(settings: BuilderSettings) -> Iterator[str]:
    """Yield the secrets of `git_credentials`: each credential as a whole, and the values of its secret fields.

    Raise `BinderyError("internal")` if the setting is not a JSON object.
    """
    for credential in git_credentials(settings).values():
        yield credential
        for entry in credential.replace("\\n", "\n").splitlines():
            name, _, value = entry.partition("=")
            if name in _SECRET_FIELDS:
                yield value


def raw_max_bytes(settings: BuilderSettings) -> int:
    """Return how many bytes of one line of output an executor keeps; `log_line` notices that the rest is missing."""
    return RAW_FACTOR * settings.build_line_max_bytes


def log_line(raw: bytes, *, max_bytes: int, redact: Callable[[str], str] = unchanged) -> Line:
    """Return a line of output as a line of the log. It may be JSON, as repo2docker writes it, or anything else.

    Any bytes are accepted: what is not UTF-8, and NUL, becomes U+FFFD, and a text of more than `max_bytes` bytes is
    cut, with a note. `redact` blanks secrets in it. What buildx prints while it exports and pushes gets the phase
    `pushing`.
    """
    raw = raw.rstrip(b"\r\n")
    entry = _parse_json(raw)
    if entry is not None:
        message = entry.get("message")
        text = message if isinstance(message, str) else ""
        phase = _phase(entry.get("phase"), text)
    else:
        is_cut = len(raw) >= RAW_FACTOR * max_bytes
        text = _cut_text(raw) if is_cut else raw.decode("utf-8", "replace")
        phase = "building"
    return Line(phase, _bounded(redact(text.rstrip("\r\n")), max_bytes) + "\n")


def read_message(raw: bytes) -> tuple[str, str]:
    """Return the message of a line of output, and repo2docker's own phase for it, which may be empty."""
    entry = _parse_json(raw.rstrip(b"\r\n"))
    if entry is None:
        return raw.decode("utf-8", "replace").strip(), ""
    message = entry.get("message")
    return message.strip() if isinstance(message, str) else "", str(entry.get("phase") or "")


def _parse_json(raw: bytes) -> dict[str, object] | None:
    if not raw.startswith(b"{"):
        return None
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _phase(phase: object, text: str) -> str:
    number, _, rest = text.partition(" ")
    if number.startswith("#") and number[1:].isdigit() and rest.startswith(_EXPORTS):
        return "pushing"  # in a step's output the seconds are here, so no step can print this
    if phase is None and text.startswith("Picked "):
        return "fetching"
    return phase if isinstance(phase, str) and phase in _PHASES else "building"


def _cut_text(raw: bytes) -> str:
    """Return the text of a line whose end is missing: the beginning of the message of repo2docker's JSON, or all."""
    _, key, text = raw.partition(b'"message": "')
    if not (raw.startswith(b"{") and key):
        return raw.decode("utf-8", "replace")

    for left_out in range(13):  # the last escape may be half there, "\\ud83d\\ude00" the longest
        try:
            return str(json.loads(b'"' + text[: len(text) - left_out] + b'"'))
        except ValueError:
            continue
    return raw.decode("utf-8", "replace")


def _bounded(text: str, max_bytes: int) -> str:
    encoded = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return f"{encoded[:max_bytes].decode('utf-8', 'ignore')} [The line is cut: it is longer than {max_bytes} bytes]"

"""repo2docker as a program: its command line, its configuration, its environment, its output.

Shared by the executors that run it in a container. What it says was read off jupyter-repo2docker 2026.4.0, which builds
and pushes with `docker buildx`; how an execution ended is read in `outcomes`.
"""

import inspect
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.builder.executors import repo2docker_guard as links
from services.builder.executors.base import Attempt, Line
from services.builder.settings import BuilderSettings
from services.common.models.errors import BinderyError

PROGRAM = "jupyter-repo2docker"
CONTENT_PROVIDERS = frozenset({"CKAN", "Dataverse", "Figshare", "Git", "Hydroshare", "Mercurial", "Swhid", "Zenodo"})
"""Classes of `repo2docker.contentproviders` that may fetch. Never `Local`: it would build folders of its container."""

RAW_FACTOR = 8
"""Of a line of output only RAW_FACTOR x `build_line_max_bytes` bytes are looked at: JSON escapes make text longer."""

_PHASES = frozenset({"fetching", "building", "pushing", "failed"})
_EXPORTS = (
    "exporting ", "writing image ", "naming to ", "unpacking to ", "pushing ", "sending tarball", "preparing layers",
)  # fmt: skip
_CREDENTIAL = "GIT_CREDENTIAL_ENV"
_SECRET_FIELDS = frozenset({"password", "credential", "oauth_refresh_token"})
"""Of the fields of a git credential helper (git-credential(1))."""

Literal = Callable[[str], str]
"""Writes a text so that what runs repo2docker hands it over as it is; Kubernetes would expand `$(NAME)` in it."""


def as_is(text: str) -> str:
    """The `Literal` of what expands nothing, and a redaction that knows no secret."""
    return text


@dataclass(frozen=True)
class Environment:
    """Environment variables of repo2docker; the secret ones stand in no command line and no specification in clear."""

    plain: dict[str, str] = field(default_factory=dict)
    secret: dict[str, str] = field(default_factory=dict, repr=False)


def arguments(attempt: Attempt, settings: BuilderSettings, *, config_path: str, literal: Literal = as_is) -> list[str]:
    """The arguments of `PROGRAM`, as BinderHub gives them; `config_path` is where `config_text` lies.

    The repository stands behind `--`, so it can't be an option. All but the operator's `repo2docker_extra_args` is
    written by `literal`: authors choose it. Raises `BinderyError("bad_spec")` for a repository that git would take for
    an option.
    """
    for given in (attempt.repo_url, attempt.ref):
        if given.startswith("-") or "\0" in given:
            raise BinderyError("bad_spec", "Neither the repository nor the ref may begin with a dash.")
    made = [
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
        made.append(f"--appendix={settings.repo2docker_appendix}")
    if settings.build_push:
        made.append("--push")
    made += [f"--label={name}={value}" for name, value in attempt.labels]
    extra = shlex.split(settings.repo2docker_extra_args)
    return [*map(literal, made), *extra, "--", literal(attempt.repo_url)]


def config_text(attempt: Attempt, settings: BuilderSettings) -> str:
    """The configuration file: only the content provider that the resolver named may fetch, and what it fetches is
    looked at (`links.py`) before it is read.

    Its others would ask hosts of their own while they look whether the repository is theirs (Dataverse a list, since
    2025.12). Raises `BinderyError("internal")` for a provider that repo2docker has not.
    """
    if attempt.content_provider not in CONTENT_PROVIDERS:
        raise BinderyError("internal", f"repo2docker has no content provider {attempt.content_provider!r}.")
    name = attempt.content_provider
    lines = [
        inspect.getsource(links),
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
    if not settings.build_push:  # else a builder of buildx's own would keep the image to itself
        lines.append('c.DockerEngine.extra_buildx_build_args = ["--load"]')
    return "\n".join([*lines, settings.repo2docker_extra_config]).rstrip() + "\n"


def environment(attempt: Attempt, settings: BuilderSettings, *, literal: Literal = as_is) -> Environment:
    """repo2docker's environment: the operator's, and the credentials for the host of the repository.

    Git is told to ask for them for that host alone, whatever helper the image has set up: a submodule elsewhere gets
    none. All but the operator's is written by `literal`. Raises `BinderyError("internal")` when the setting is no JSON
    object.
    """
    plain = {"GIT_TERMINAL_PROMPT": "0", "PYTHONUNBUFFERED": "1"} | settings.repo2docker_extra_envs
    text = _credentials(settings).get(urlsplit(attempt.repo_url).netloc.rpartition("@")[2].lower())
    if not text:
        return Environment(plain)
    parts = urlsplit(attempt.repo_url)
    asked = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    helpers = [
        ("credential.helper", ""),
        (f"credential.{asked}.helper", f'!f() {{ test "$1" != get || printf \'%b\\n\' "${_CREDENTIAL}"; }}; f'),
    ]
    plain["GIT_CONFIG_COUNT"] = str(len(helpers))
    for number, (key, value) in enumerate(helpers):
        plain |= {f"GIT_CONFIG_KEY_{number}": literal(key), f"GIT_CONFIG_VALUE_{number}": literal(value)}
    return Environment(plain, {_CREDENTIAL: text})


def _credentials(settings: BuilderSettings) -> dict[str, str]:
    given = settings.git_credentials.get_secret_value()
    try:
        found = json.loads(given or "{}")
        return {str(host).lower(): str(text) for host, text in found.items()}
    except (ValueError, AttributeError):
        raise BinderyError("internal", "BINDERY_GIT_CREDENTIALS is not a JSON object.") from None


def git_secrets(settings: BuilderSettings) -> Iterator[str]:
    """What must not be said of `git_credentials`: each as it is, and the values of those of its fields that are secret.

    Raises `BinderyError("internal")` when the setting is no JSON object.
    """
    for text in _credentials(settings).values():
        yield text
        for entry in text.replace("\\n", "\n").splitlines():
            name, _, value = entry.partition("=")
            if name in _SECRET_FIELDS:
                yield value


def raw_max_bytes(settings: BuilderSettings) -> int:
    """How many bytes of one line of output an executor keeps; `line` sees that the rest is missing."""
    return RAW_FACTOR * settings.build_line_max_bytes


def line(raw: bytes, *, max_bytes: int, redact: Callable[[str], str] = as_is) -> Line:
    """A line of output as a line of the log: JSON as repo2docker writes it, or anything.

    Every byte is survived: what is not UTF-8 and NUL become U+FFFD, and a text of more than `max_bytes` bytes is cut,
    with a note. `redact` blanks secrets in it. What buildx says while it exports and pushes is in phase `pushing`.
    """
    raw = raw.rstrip(b"\r\n")
    phase, text = "building", ""
    if (entry := _entry(raw)) is not None:
        said = entry.get("message")
        text = said if isinstance(said, str) else ""
        phase = _phase(entry.get("phase"), text)
    else:
        text = _beginning(raw) if len(raw) >= RAW_FACTOR * max_bytes else raw.decode("utf-8", "replace")
    return Line(phase, _bounded(redact(text.rstrip("\r\n")), max_bytes) + "\n")


def said_in(raw: bytes) -> tuple[str, str]:
    """What a line of output says, and repo2docker's own phase for it: for whoever looks for the reason of a failure."""
    entry = _entry(raw.rstrip(b"\r\n"))
    if entry is None:
        return raw.decode("utf-8", "replace").strip(), ""
    said = entry.get("message")
    return said.strip() if isinstance(said, str) else "", str(entry.get("phase") or "")


def _entry(raw: bytes) -> dict[str, object] | None:
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
        return "pushing"  # what a step prints has the seconds in this place, so no step can say this
    if phase is None and text.startswith("Picked "):
        return "fetching"
    return phase if isinstance(phase, str) and phase in _PHASES else "building"


def _beginning(raw: bytes) -> str:
    """The text at the beginning of a line whose end is missing: of repo2docker's JSON, or as it is."""
    _, found, text = raw.partition(b'"message": "')
    if not (raw.startswith(b"{") and found):
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

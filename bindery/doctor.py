"""The checks of `bindery doctor`: what `bindery up` needs from this machine, and what to do about each problem."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bindery.local_gateway import is_loopback
from deploy.local.ports import check_ports
from deploy.local.preflight import (
    UNTRUSTED,
    check_git,
    check_python,
    git_warning,
    proxy_warning,
    settings_warning,
)
from deploy.local.proxy import traefik_binary
from deploy.local.redis import redis_binary
from deploy.local.run_record import find_leftovers, is_locked, recorded_up
from deploy.local.settings import Settings, StartupError

COMMAND_TIMEOUT_SECONDS = 30
GITHUB_TIMEOUT_SECONDS = 10
UNTRUSTED_BY_UV = "invalid peer certificate"
UNTRUSTED_BY_PYTHON = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True)
class Finding:
    """One row of the table: `result` says what is there, or what is wrong and what to do about it."""

    name: str
    is_well: bool
    result: str
    _: KW_ONLY
    is_warning: bool = False


class CheckWarning(Exception):
    """A check passes, but something should be changed; the message says how."""


def run_checks(settings: Settings) -> list[Finding]:
    """Run every check, and return what each found. No check leaves anything behind."""
    checks: dict[str, Callable[[], str]] = {
        "python": check_python,
        "git": _git,
        "uv": _uv,
        "redis": lambda: str(redis_binary()),
        "proxy": lambda: str(traefik_binary()),
        "port": lambda: _port(settings),
        "public address": _public_address,
        "start token": lambda: _start_token(settings),
        "data folder": lambda: _data_dir(settings),
        "settings": lambda: _settings(settings),
        "package index": _package_index,
        "outbound proxy": _outbound_proxy,
        "github": _github,
        "leftovers": lambda: _leftovers(settings),
    }

    return [_run_check(name, check) for name, check in checks.items()]


def format_table(findings: list[Finding]) -> str:
    """Return the findings as lines for a terminal."""
    width = max(len(finding.name) for finding in findings)
    rows = [f"{_mark(finding)}  {finding.name:<{width}}  {finding.result}" for finding in findings]
    return "\n".join(rows)


def _mark(finding: Finding) -> str:
    if not finding.is_well:
        return "FAIL"
    return "warn" if finding.is_warning else "ok  "


def _run_check(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except CheckWarning as warning:
        return Finding(name, True, str(warning), is_warning=True)
    except StartupError as error:
        return Finding(name, False, str(error))


def _git() -> str:
    version = check_git()
    if warning := git_warning(version):
        raise CheckWarning(warning)
    return version


def _outbound_proxy() -> str:
    if warning := proxy_warning(os.environ):
        raise CheckWarning(warning)

    proxy = os.environ.get("BINDERY_OUTBOUND_PROXY", "")
    return proxy.rpartition("@")[2].removeprefix("http://") or "none"  # without its login


def _settings(settings: Settings) -> str:
    if warning := settings_warning(settings, os.environ):
        raise CheckWarning(warning)
    return "every BINDERY_ variable is known"


def _uv() -> str:
    return _run([_uv_binary(), "--version"], lambda _: "uv is missing: run `make up`, which installs it.").strip()


def _uv_binary() -> str:
    installed = Path(sys.executable).parent / "uv"
    return str(installed) if installed.exists() else "uv"


def _package_index() -> str:
    # Without its cache, uv has to ask the index that it is configured for, whichever that is.
    command = [_uv_binary(), "pip", "compile", "--no-cache", "--quiet", "--no-header", "-"]
    with tempfile.TemporaryDirectory() as empty_folder:  # the uv.toml or pyproject.toml of this one must not count
        _run(command, _index_advice, text="packaging\n", folder=empty_folder)

    return "reachable"


def _index_advice(error: str) -> str:
    if UNTRUSTED_BY_UV in error:
        return f"its certificate {UNTRUSTED}."

    return (
        "not reachable: installing and most builds need it. Check the network, the proxy variables (HTTPS_PROXY) and "
        "uv's own settings (UV_DEFAULT_INDEX)."
    )


def _github() -> str:
    """Ask GitHub as the resolver does: with the same roots, and through BINDERY_OUTBOUND_PROXY alone."""
    url = os.environ.get("BINDERY_GITHUB_URL") or "https://github.com"
    try:
        roots = httpx.create_ssl_context(trust_env=True)
    except OSError as error:
        names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        raise StartupError(
            f"{' or '.join(names)} can't be used ({error.strerror or error}): name a file of certificates in PEM form."
        ) from error

    proxy = os.environ.get("BINDERY_OUTBOUND_PROXY") or None
    try:
        httpx.head(url, verify=roots, proxy=proxy, trust_env=False, timeout=GITHUB_TIMEOUT_SECONDS)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise StartupError(f"{_not_an_address(proxy)} is no address: write it as http://host:port.") from error
    except httpx.HTTPError as error:
        if UNTRUSTED_BY_PYTHON in str(error):
            raise StartupError(f"the certificate of {url} {UNTRUSTED}.") from error
        raise CheckWarning(
            f"{url} is not reachable, so its repositories can't be launched. Check the network and "
            "BINDERY_OUTBOUND_PROXY."
        ) from error

    return f"{url} is reachable"


def _not_an_address(proxy: str | None) -> str:
    """Return which setting httpx could not use: that of the proxy, unless httpx takes it."""
    try:
        httpx.HTTPTransport(proxy=proxy)
    except (ValueError, ImportError, httpx.InvalidURL):
        return "BINDERY_OUTBOUND_PROXY"
    return "BINDERY_GITHUB_URL"


def _port(settings: Settings) -> str:
    if not is_up(settings):
        return check_ports(settings)

    record = recorded_up(settings.run_dir)
    port = urlsplit(record.url).port if record else settings.port  # it may run with another BINDERY_PORT
    return f"{port}, by the Bindery that runs now"


def _public_address() -> str:
    """Check the address of a gateway for others; `make up` listens at loopback, whatever the variable says."""
    url = os.environ.get("BINDERY_PUBLIC_URL", "")
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_secure_host(url):
        raise StartupError(
            f"BINDERY_PUBLIC_URL={url} is plain http: browsers then don't say which web site a request comes from, so "
            "/build has no protection against other sites but the browser's name, and tokens are sent unencrypted. "
            "Serve it by https."
        )

    return url or "this machine alone"


def _is_secure_host(url: str) -> bool:
    """Return whether browsers take the host of `url` for this machine, which is secure without https."""
    host = urlsplit(url).hostname or ""
    return is_loopback(url) or host.endswith(".localhost")


def _start_token(settings: Settings) -> str:
    if not settings.start_token.get_secret_value():
        return "none (BINDERY_START_TOKEN is empty): every user and program of this machine may launch"

    return "asked for"


def _data_dir(settings: Settings) -> str:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent

    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StartupError(f"{folder} can't be written to: set BINDERY_DATA_DIR to a folder of yours.")

    return str(settings.data_dir)


def _leftovers(settings: Settings) -> str:
    if is_up(settings):
        record = recorded_up(settings.run_dir)
        if record is None:
            return "Bindery is starting"
        return f"Bindery is running: {record.url} (`make url` prints it with the start token)"

    if leftovers := find_leftovers(settings):
        names = ", ".join(f"{process.what} ({process.pid})" for process in leftovers)
        raise StartupError(f"of an earlier run: {names}. `make up` or `make stop` ends them.")

    return "none"


def is_up(settings: Settings) -> bool:
    """Return whether a stack runs in the data folder."""
    return settings.run_dir.is_dir() and os.access(settings.run_dir, os.W_OK) and is_locked(settings.run_dir)


def _run(command: list[str], advise: Callable[[str], str], text: str = "", folder: str | None = None) -> str:
    """Return the output of a command that reads `text`.

    If it fails, raise `StartupError` with the advice that `advise` gives for its error output.
    """
    try:
        result = subprocess.run(
            command, input=text, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_SECONDS, cwd=folder
        )
    except subprocess.CalledProcessError as error:
        raise StartupError(advise(error.stderr)) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupError(advise("")) from error

    return result.stdout

"""The text of the values: `values.yaml.template`, filled in."""

import json
import textwrap
from pathlib import Path
from string import Template

from deploy.zero_to_jupyterhub.options import Options
from deploy.zero_to_jupyterhub.spawner_files import spawner_files

_TEMPLATE = Path(__file__).with_name("values.yaml.template")
_PYTHON_PATH = "/srv/bindery"
_TOKEN_KEY = "hub.services.bindery-launcher.apiToken"  # noqa: S105 - where the chart keeps the token, not the token
_CHARTS_SECRET = "hub"  # noqa: S105 - its name
_COPIED_SECRET = "bindery-hub-token"  # noqa: S105 - its name
_NEVER_SECONDS = 10 * 365 * 86400
"""An idle timeout that nobody reaches: the chart takes 0 for its culler's own default."""


def values_text(options: Options) -> str:
    """Return the values as YAML, with comments for whoever installs them. There is no secret in them."""
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        namespace=options.namespace,
        token_steps=_comment(_token_steps(options)),
        bindery_values=_comment(textwrap.indent(_bindery_values(options), "  ")),
        memory_guarantee=_size(options.memory_guarantee),
        memory_limit=_size(options.memory_limit),
        image_pull_secrets=json.dumps(options.image_pull_secrets),
        idle_timeout=options.idle_timeout_seconds or _NEVER_SECONDS,
        max_age=options.max_age_seconds,
        token_secret=json.dumps(options.token_secret or None),
        bindery_namespace=json.dumps(options.bindery_namespace),
        python_path=_PYTHON_PATH,
        allowed_origins=json.dumps(options.allowed_origins),
        concurrent_spawns=json.dumps(str(options.concurrent_spawns)),
        start_timeout=json.dumps(str(options.start_timeout_seconds)),
        start_max=json.dumps(str(options.start_max_seconds)),
        extra_files=textwrap.indent(_extra_files(), "    "),
    )


def _extra_files() -> str:
    """Return the spawner's modules for `hub.extraFiles`; the keys are those of the chart's Secret with the files."""
    files = (
        f"{path.replace('/', '.')}:\n  mountPath: {_PYTHON_PATH}/{path}\n  stringData: |\n"
        + textwrap.indent(text, "    ")
        for path, text in spawner_files().items()
    )
    return "".join(files).rstrip()


def _token_steps(options: Options) -> str:
    """Return how the launcher's token gets to Bindery: a Secret is only there for pods of its own namespace."""
    secret = options.token_secret or _CHARTS_SECRET
    whose = "you have made" if options.token_secret else "the chart makes"
    where = f"Bindery's launcher is a service of this hub. The hub knows it by the token in the Secret {secret}, which"
    if options.namespace == options.bindery_namespace:
        return _wrapped(f"{where} {whose}.")

    return (
        _wrapped(
            f"{where} {whose}. Copy the token into Bindery's namespace, which must be there, and again whenever it has "
            "changed:"
        )
        + f"\n\n  kubectl --namespace {options.namespace} get secret {secret} \\\n"
        f"    --output go-template='{{{{index .data \"{_TOKEN_KEY}\" | base64decode}}}}' |\n"
        f"    kubectl --namespace {options.bindery_namespace} create secret generic {_COPIED_SECRET} \\\n"
        "      --from-file token=/dev/stdin --dry-run=client --output yaml | kubectl apply --filename -"
    )


def _bindery_values(options: Options) -> str:
    """Return values for Bindery's own chart: those that must fit this hub."""
    if options.namespace == options.bindery_namespace:
        token_secret = {"name": options.token_secret or _CHARTS_SECRET, "key": _TOKEN_KEY}
    else:
        token_secret = {"name": _COPIED_SECRET, "key": "token"}
    return (
        "serversUrl: https://servers.example.org/  # where browsers reach this hub's proxy; not the host of publicUrl\n"
        "hub:\n"
        "  bundled: false\n"
        f"  apiUrl: http://hub.{options.namespace}:8081/hub/api/\n"
        f"  tokenSecret: {{name: {token_secret['name']}, key: {token_secret['key']}}}\n"
        "servers:\n"
        f"  idleTimeoutSeconds: {options.idle_timeout_seconds}\n"
        f"  maxAgeSeconds: {options.max_age_seconds}\n"
        f"  startTimeoutSeconds: {options.start_timeout_seconds}\n"
        "launcher:\n"
        "  extraConfig:\n"
        f"    server_start_max_seconds: {options.start_max_seconds}\n"
        f"    hub_concurrent_spawns: {options.concurrent_spawns * 4 // 5 or 1}"
    )


def _size(memory: str) -> str:
    """Return a size of memory as JupyterHub takes it: bytes as a number, and all else as a text."""
    return memory if memory.isdigit() else json.dumps(memory)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 116, break_on_hyphens=False)


def _comment(text: str) -> str:
    return textwrap.indent(text, "# ", lambda _: True).replace("# \n", "#\n")

"""What a server carries about its launch, for those who look at pods and containers: labels and annotations."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

INSTALLATION = "bindery/installation"
LAUNCH = "bindery/launch"
REPOSITORY = "bindery/repo-url"
REF = "bindery/ref"
REF_URL = "bindery/ref-url"

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ANNOTATIONS = {REPOSITORY: "repo_url", REF: "bindery_ref", REF_URL: "binder_ref_url"}
_LONGEST = 2048


def installation_label(installation_id: str) -> str:
    """Return an installation's id as a label's value, the same that its builds carry: any id may be one."""
    return hashlib.sha256(installation_id.encode()).hexdigest()[:24]


def labels_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return what a server is found by; values of a label's form, whatever the launch says."""
    found = {}
    if installation := _text(options, "bindery_installation"):
        found[INSTALLATION] = installation_label(installation)
    if launch := _text(options, "bindery_launch_ref"):
        found[LAUNCH] = launch if _LABEL.fullmatch(launch) else installation_label(launch)
    return found


def annotations_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return what is told of a server's repository; cut where it is very long."""
    return {key: text[:_LONGEST] for key, name in _ANNOTATIONS.items() if (text := _text(options, name))}


def _text(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name)
    return value if isinstance(value, str) else ""

"""Labels and annotations of pods and containers: to which installation and launch a server belongs."""

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
_ANNOTATION_MAX_CHARS = 2048


def installation_label(installation_id: str) -> str:
    """Return the label value for any installation id: a hash, the same that builds of the installation have."""
    return hashlib.sha256(installation_id.encode()).hexdigest()[:24]


def labels_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels by which a server is found. Values have the form of a label, whatever the options say."""
    labels = {}
    if installation := _text(options, "bindery_installation"):
        labels[INSTALLATION] = installation_label(installation)
    if launch := _text(options, "bindery_launch_ref"):
        labels[LAUNCH] = launch if _LABEL.fullmatch(launch) else installation_label(launch)
    return labels


def annotations_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations that describe a server's repository, cut if they are very long."""
    return {key: text[:_ANNOTATION_MAX_CHARS] for key, name in _ANNOTATIONS.items() if (text := _text(options, name))}


def _text(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name)
    return value if isinstance(value, str) else ""

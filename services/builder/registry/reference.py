"""Image names: the registry that holds an image, its repository there, and its tag.

A name is parsed as the engine that pushes the image parses it (github.com/distribution/reference), so that both mean
the same place. BinderHub guesses the host by length and characters, and so mistakes short user names for hosts; for
names that engines can push and BinderHub parses correctly, the results are the same.
"""

import re
from dataclasses import dataclass
from typing import Self

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_REPOSITORY_LENGTH = 255


@dataclass(frozen=True)
class Reference:
    """An image by its full name. `tag` is a digest (`sha256:…`) if the name has one."""

    host: str
    """With its port; `docker.io` if the name has no host."""
    repository: str
    tag: str

    @classmethod
    def parse(cls, image: str) -> Self:
        """Parse `host:port/path/name:tag`, `name@digest` and shorter forms; a missing tag is `latest`.

        Raise `ValueError`, a sentence, for a name that no registry can hold, such as a path with capital letters.
        """
        name, at, tag = image.partition("@")
        path, colon, name_tag = name.rpartition(":")
        if colon and "/" not in name_tag:
            name = path
            tag = tag or name_tag
            if at and not _TAG.fullmatch(name_tag):
                raise ValueError(f"{name_tag!r} is not a tag")
        elif not at:
            tag = "latest"

        if at and not _DIGEST.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a digest")
        if not at and not _TAG.fullmatch(tag):
            raise ValueError(f"{tag!r} is not a tag")

        host, repository = _split_host(name)
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is not a host")
        if len(repository) > _REPOSITORY_LENGTH:
            raise ValueError(f"the path is longer than {_REPOSITORY_LENGTH} characters")
        for part in repository.split("/"):
            if not _COMPONENT.fullmatch(part):
                raise ValueError(f"{part!r} can't be a part of its path")
        return cls(host, repository, tag)


def _split_host(name: str) -> tuple[str, str]:
    """Split off the host: the first part, if it has a dot, a port or capitals, or is `localhost`."""
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and (first == "localhost" or first != first.lower() or any(c in first for c in ".:["))
    host, repository = (first, rest) if is_host else (DOCKER_HUB, name)
    if is_docker_hub(host):
        return DOCKER_HUB, repository if "/" in repository else f"library/{repository}"
    return host, repository


def is_docker_hub(host: str) -> bool:
    """Return whether a host is Docker Hub: by its name in image names, in `config.json` or of its API."""
    return host.lower() in {DOCKER_HUB, DOCKER_HUB_API, "index.docker.io", "registry.docker.io"}

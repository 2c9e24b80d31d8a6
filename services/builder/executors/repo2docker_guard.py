"""A check of the checkout, before repo2docker reads its files. This source is part of repo2docker's configuration.

repo2docker runs beside the builder's credentials, and prints lines that it can't parse in an error. So a file that it
reads must be the repository's own. Only the standard library is imported: this runs in the builder image.
"""

import os
from pathlib import Path

FOLDERS = ("binder", ".binder")
PLACES = ("", "binder/", ".binder/")
FILES = (
    *("Dockerfile", "Project.toml", "JuliaProject.toml", "REQUIRE", "default.nix", "DESCRIPTION", "install.R"),
    *("environment.yml", "environment.yaml", "Pipfile", "Pipfile.lock", "requirements.txt", "requirements3.txt"),
    *("setup.py", "pyproject.toml", "runtime.txt", "apt.txt", "postBuild", "start"),
    *(".dockerignore", ".containerignore", "Dockerfile.dockerignore", "Dockerfile.containerignore"),
)
"""The names in the source of jupyter-repo2docker 2026.4.0, and those that buildx reads beside a Dockerfile."""


def refuse_links_outside(checkout: str) -> None:
    """Raise `ValueError` if a file that repo2docker may read is a link that leads out of the checkout.

    Any other link is only copied, as a link, wherever it leads.
    """
    root = Path(os.path.realpath(checkout))
    for name in (*FOLDERS, *(f"{place}{file}" for place in PLACES for file in FILES)):
        if not Path(os.path.realpath(root / name)).is_relative_to(root):
            raise ValueError(f"{name} is a link that leads out of the repository: put the file itself there")

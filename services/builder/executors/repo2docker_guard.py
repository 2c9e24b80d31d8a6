"""A check of the checkout, before repo2docker reads its files. This source is part of repo2docker's configuration.

repo2docker runs beside the builder's credentials, and prints lines that it can't parse in an error. So a file that it
reads must be the repository's own. Only the standard library is imported: this runs in the builder image.
"""

from pathlib import Path


def refuse_links_outside(checkout: str) -> None:
    """Raise `ValueError` if a file that repo2docker may read is a link that leads out of the checkout."""
    root = Path(checkout).resolve()
    for folder in (root, root / "binder", root / ".binder"):
        for path in (folder, *(folder.iterdir() if folder.is_dir() else [])):
            target = path.resolve()
            if target != root and root not in target.parents:
                name = path.relative_to(root)
                raise ValueError(f"{name} is a link that leads out of the repository: put the file itself there")

"""What repo2docker checks a repository for, before it reads its files: this source stands in its configuration.

repo2docker runs beside the builder's credentials, and shows lines that it can't read in an error. So a file that it
reads must be the repository's own. Nothing is imported here but what every Python has.
"""

from pathlib import Path


def refuse_links_outside(checkout: str) -> None:
    """Raise `ValueError` where a file that repo2docker may read is a link that leads out of the checkout."""
    root = Path(checkout).resolve()
    for folder in (root, root / "binder", root / ".binder"):
        for path in (folder, *(folder.iterdir() if folder.is_dir() else [])):
            target = path.resolve()
            if target != root and root not in target.parents:
                name = path.relative_to(root)
                raise ValueError(f"{name} is a link that leads out of the repository: put the file itself there")

"""The public registries that pip and conda ask where nobody says otherwise.

The names of their hosts are put together here: no file of this repository spells one, so that nothing that is copied
from it goes past an operator's mirror.
"""

PYPI = ".".join(("pypi", "org"))
PYPI_OF_OLD = ".".join(("pypi", "python", "org"))
"""The name that old requirements files have."""

CONDA_CHANNELS = f"https://{'.'.join(('conda', 'anaconda', 'org'))}"
"""Where the names of channels lead."""

ANACONDA_DEFAULTS = tuple(f"https://{'.'.join(('repo', 'anaconda', 'com'))}/pkgs/{name}" for name in ("main", "r"))
"""The channels that conda calls `defaults`. Source: conda's setting `default_channels`."""

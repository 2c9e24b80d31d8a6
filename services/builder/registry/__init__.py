"""The registry that images are pushed to and pulled from: whether it has an image, and under which digest.

An executor that pushes uses `RegistryImages` for lookups, and gives each build the login for its image's registry
(`executors/build_credentials.py`).
"""

from services.builder.registry.images import RegistryImages

__all__ = ["RegistryImages"]

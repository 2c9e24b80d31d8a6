"""The registry that images are pushed to and pulled from: whether it has an image, and under which digest.

An executor that pushes returns `registry_images(settings)` beside itself, and gives its builds the login that these
credentials have for their image's registry (`executors/logins.py`).
"""

from services.builder.registry.images import RegistryImages
from services.builder.registry.settings import RegistrySettings

__all__ = ["RegistryImages", "registry_images"]


def registry_images(settings: RegistrySettings) -> RegistryImages:
    """The images of the registry that the settings name.

    Raises `ValueError`, a sentence for the operator, when they can't be used.
    """
    return RegistryImages(settings)

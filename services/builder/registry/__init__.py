"""The registry that images are pushed to and pulled from: whether it has an image, and under which digest.

An executor that pushes returns `registry_images(settings)` beside itself. What a push authenticates with is the
executor's own affair: an engine reads its `config.json` itself.
"""

from services.builder.registry.images import RegistryImages
from services.builder.registry.settings import RegistrySettings

__all__ = ["RegistryImages", "registry_images"]


def registry_images(settings: RegistrySettings) -> RegistryImages:
    """The images of the registry that the settings name.

    Raises `ValueError`, a sentence for the operator, when they can't be used.
    """
    return RegistryImages(settings)

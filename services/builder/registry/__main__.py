"""A check of the registry from the command line, with the builder's settings.

Run as `python -m services.builder.registry [IMAGE]`.
"""

import argparse
import asyncio
import sys

from services.builder.registry import RegistryImages
from services.builder.registry.address import RegistryAddress
from services.builder.registry.settings import RegistrySettings
from services.common.models.errors import BinderyError
from services.common.service.logging import configure_logging


def main() -> int:
    """Print the registry's answer. The exit status is 0 for an image, 1 for none, 2 if it can't be determined."""
    parser = argparse.ArgumentParser(prog="python -m services.builder.registry", description=main.__doc__)
    parser.add_argument("image", nargs="?", help="a whole image name; without one, an image that nobody builds")
    arguments = parser.parse_args()

    settings = RegistrySettings()
    configure_logging(service="registry", level="warning", form="text")
    try:
        address = RegistryAddress.of(settings)
        answer, status = asyncio.run(_look_up(settings, arguments.image or address.probe_name))
        sentence = f"{address.url}: {answer}"
    except ValueError as error:
        sentence = str(error)
        status = 2

    sys.stdout.write(f"{sentence}\n")
    return status


async def _look_up(settings: RegistrySettings, name: str) -> tuple[str, int]:
    images = RegistryImages(settings)
    try:
        image = await images.find(name)
    except BinderyError as error:
        return error.detail, 2
    finally:
        await images.aclose()
    return (f"{name} is {image.digest}", 0) if image else (f"there is no {name}", 1)


if __name__ == "__main__":
    sys.exit(main())

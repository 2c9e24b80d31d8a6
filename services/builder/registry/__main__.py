"""Ask the registry as the builder does: `python -m services.builder.registry [IMAGE]`, with the builder's settings."""

import argparse
import asyncio
import sys

from services.builder.registry import registry_images
from services.builder.registry.address import Address
from services.builder.registry.settings import RegistrySettings
from services.common.models.errors import BinderyError
from services.common.service.logging import configure_logging


def main() -> int:
    """Say what the registry answers. The exit status is 0 for an image, 1 for none, 2 when nobody can say."""
    parser = argparse.ArgumentParser(prog="python -m services.builder.registry", description=main.__doc__)
    parser.add_argument("image", nargs="?", help="a whole image name; without one, an image that nobody builds")
    asked = parser.parse_args()
    settings = RegistrySettings()
    configure_logging(service="registry", level="warning", form="text")
    try:
        address = Address.of(settings)
        said, status = asyncio.run(_ask(settings, asked.image or address.probe_name))
    except ValueError as error:
        said, status = str(error), 2
    else:
        said = f"{address.url}: {said}"
    sys.stdout.write(f"{said}\n")
    return status


async def _ask(settings: RegistrySettings, image: str) -> tuple[str, int]:
    images = registry_images(settings)
    try:
        found = await images.find(image)
    except BinderyError as error:
        return error.detail, 2
    finally:
        await images.aclose()
    return (f"{image} is {found.digest}", 0) if found else (f"there is no {image}", 1)


if __name__ == "__main__":
    sys.exit(main())

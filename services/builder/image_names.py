"""The names of images: exactly those that BinderHub gives, so that an existing deployment's images stay valid."""

import hashlib

from services.common.models import BuildInput


def safe_slug(slug: str, limit: int, hash_length: int = 6) -> str:
    """Return `slug` as part of an image name, at most `limit` characters, with a hash that keeps slugs apart.

    Every byte that is not an ASCII letter or digit becomes `-` and two hex digits; the cut may split such a group.
    Source: BinderHub's `_safe_build_slug`.
    """
    digest = hashlib.sha256(slug.encode()).hexdigest()
    escaped = "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() else f"-{b:02x}" for b in slug.encode())
    return f"{escaped[: limit - hash_length - 1]}-{digest[:hash_length]}".lower()


def image_name(prefix: str, build_input: BuildInput) -> str:
    """Return the full name and tag of the image of a build input. Underscores become dashes, in the prefix too."""
    name = f"{prefix}{safe_slug(build_input.slug, limit=255 - len(prefix))}:{build_input.build_ref}"
    return name.replace("_", "-").lower()

"""What images are called: exactly as BinderHub calls them, so that an existing deployment's images stay valid."""

import hashlib

from services.common.models import BuildInput


def safe_slug(slug: str, limit: int, hash_length: int = 6) -> str:
    """`slug` as a part of an image name, at most `limit` characters, with a hash that keeps different slugs apart.

    Source: BinderHub's `_safe_build_slug`. Every byte but letters and digits becomes `-` and two hex digits; cutting
    may split such a group.
    """
    digest = hashlib.sha256(slug.encode()).hexdigest()
    escaped = "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() else f"-{b:02x}" for b in slug.encode())
    return f"{escaped[: limit - hash_length - 1]}-{digest[:hash_length]}".lower()


def image_name(prefix: str, made_from: BuildInput) -> str:
    """The full name and tag of the image made from `made_from`. Underscores become dashes, in the prefix too."""
    name = f"{prefix}{safe_slug(made_from.slug, limit=255 - len(prefix))}:{made_from.build_ref}"
    return name.replace("_", "-").lower()

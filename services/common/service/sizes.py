"""Sizes as people write them: `512M`, `2Gi`."""

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(i?))?B?", re.IGNORECASE | re.ASCII)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str, *, base: int = 1024) -> int:
    """Return the number of bytes that `512M`, `2GiB` or `1.5 T` means; without a unit, the number itself.

    `Ki`, `Mi`, … are powers of 1024. `K`, `M`, … are powers of `base`: 1024 for JupyterHub, 1000 for the quantities
    of Kubernetes. Raise `ValueError` for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write 512M or 2G")

    number, prefix, binary_mark = match.groups()
    if not prefix:
        return int(float(number))
    unit_base = 1024 if binary_mark else base
    return int(float(number) * unit_base ** _POWERS[prefix.upper()])

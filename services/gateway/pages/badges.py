"""The badges that repositories show beside their launch links."""

_MARK = (
    '<path d="M12.2 5.8c-1.8-1.6-4.3-2.1-6.6-1.5v9.8c2.3-.6 4.8-.1 6.6 1.5z" fill="#fff"/>'
    '<path d="M13.4 5.8c1.8-1.6 4.3-2.1 6.6-1.5v9.8c-2.3-.6-4.8-.1-6.6 1.5z" fill="#cfe5dd"/>'
    '<path d="M11 8h3.6M11 10.5h3.6M11 13h3.6" stroke="#f0a04b" stroke-width="1.1" stroke-linecap="round"/>'
)


def badge_svg(*, with_mark: bool) -> bytes:
    """Return a badge as SVG, 20 px high. Fixed text lengths make it look the same in every font."""
    left = 64 if with_mark else 46
    right = 53
    width = left + right
    label = left - 22.5
    middle = left + right / 2
    mark = _MARK if with_mark else ""

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" viewBox="0 0 {width} 20" role="img" '
        'aria-labelledby="t"><title id="t">launch | bindery</title>'
        f'<clipPath id="c"><rect width="{width}" height="20" rx="3"/></clipPath><g clip-path="url(#c)">'
        f'<path d="M0 0h{left}v20H0z" fill="#3a4149"/><path d="M{left} 0h{right}v20H{left}z" fill="#0f6b59"/></g>{mark}'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11" text-anchor="middle" '
        'aria-hidden="true">'
        f'<text x="{label:g}" y="14" textLength="36">launch</text>'
        f'<text x="{middle:g}" y="14" textLength="43">bindery</text></g></svg>\n'
    ).encode()

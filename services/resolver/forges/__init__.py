"""One way of asking the HTTP API of a forge or an archive: its limits, its tokens, and its bad days.

`forge` is what providers use. It knows no provider, and no link.
"""

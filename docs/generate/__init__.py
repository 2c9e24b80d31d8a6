"""The generator of the pages and files that are made from the code: `python -m docs.generate`, or `make docs`.

The code is the source of everything that it knows. What a reader needs beyond that (what to do about an error, what a
variable of the hub's configuration is for) is written here. `tests/unit/docs/test_generate.py` checks both.
"""

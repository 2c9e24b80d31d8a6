"""`python -m bindery` is the console script `bindery`."""

import sys

from bindery.cli.app import main

if __name__ == "__main__":
    sys.exit(main())

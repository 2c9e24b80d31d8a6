"""Write every generated file that is out of date."""

import os
import sys

from docs.generate.files import CONTENTS, DOCS, stale


def main() -> int:
    """Write the files, print their names and return the exit status."""
    for name in list(stale()):
        (DOCS / name).write_text(CONTENTS[name]())
        sys.stdout.write(f"{os.path.normpath(DOCS.name + '/' + name)} is written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

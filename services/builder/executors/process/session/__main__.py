"""Run one build: `python -m services.builder.executors.process.session <build folder>`."""

import sys

from services.builder.executors.process.session.session import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

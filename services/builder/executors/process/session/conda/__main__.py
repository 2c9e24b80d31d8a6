"""Install one environment: `python -m services.builder.executors.process.session.conda <job file>`."""

import sys

from services.builder.executors.process.session.conda.installation import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

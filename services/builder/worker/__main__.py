"""Run a builder worker: `python -m services.builder.worker`."""

from services.builder.worker.worker import main

if __name__ == "__main__":
    main()

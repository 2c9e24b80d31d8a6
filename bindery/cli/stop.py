"""`bindery stop`."""

from bindery.cli.checkout import embedded_stack


def stop() -> None:
    """End the Bindery that runs on this machine, and print the result."""
    with embedded_stack("stop") as settings:
        from deploy.local.stop import stop as stop_stack

        print(stop_stack(settings))

"""`bindery url`."""

from bindery.cli.checkout import embedded_stack


def url() -> None:
    """Print the address of the Bindery that runs on this machine, with its start token."""
    with embedded_stack("url") as settings:
        from deploy.local.start_token import running_address

        print(running_address(settings.run_dir))

"""`bindery clean`."""

from typing import Annotated

from cyclopts import Parameter

from bindery.cli.checkout import embedded_stack

Force = Annotated[bool, Parameter(help="Don't ask.", negative="", show_default=False)]


def clean(*, force: Force = False) -> None:
    """Delete the data folder, after asking, and print the result."""
    with embedded_stack("clean") as settings:
        from deploy.local.stop import clean as delete_data_folder

        print(delete_data_folder(settings, force=force))

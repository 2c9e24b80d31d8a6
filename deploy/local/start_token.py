"""The start token of a running `up`: kept for the command line, and a part of the address that is opened."""

from pathlib import Path

from deploy.local.processes import write_atomically
from deploy.local.run_record import START_TOKEN, running_up
from deploy.local.settings import Settings, StartupError


def keep(settings: Settings) -> None:
    """Write the token to `<data>/run/start-token`, which its owner alone may read. It goes when `up` has ended."""
    if token := settings.start_token.get_secret_value():
        write_atomically(settings.run_dir / START_TOKEN, token)


def address(url: str, token: str) -> str:
    """What a browser opens to be let in."""
    return f"{url}/?token={token}" if token else url


def running_address(run_dir: Path) -> str:
    """What a browser opens of the Bindery that runs now. Raises `StartupError` where none does."""
    found = running_up(run_dir)
    if not found or not found[0].is_running:
        raise StartupError(
            f"No Bindery runs with the data folder {run_dir.parent}: `make up` starts it, or BINDERY_DATA_DIR names "
            "another's."
        )
    return address(found[1], _kept(run_dir))


def _kept(run_dir: Path) -> str:
    try:
        return (run_dir / START_TOKEN).read_text().strip()
    except FileNotFoundError:  # it was started without one
        return ""

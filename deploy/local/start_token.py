"""The start token of a running `up`: kept for the command line, and part of the address that is opened."""

from pathlib import Path

from deploy.local.processes import write_atomically
from deploy.local.run_record import START_TOKEN, recorded_up
from deploy.local.settings import Settings, StartupError


def write_token(settings: Settings) -> None:
    """Write the token to `<data>/run/start-token`, for its owner alone. It is removed when `up` has ended."""
    if token := settings.start_token.get_secret_value():
        write_atomically(settings.run_dir / START_TOKEN, token)


def address(url: str, token: str) -> str:
    """Return the address that a browser opens to be let in."""
    return f"{url}/?token={token}" if token else url


def running_address(run_dir: Path) -> str:
    """Return the address that a browser opens of the Bindery that runs. Raise `StartupError` if none does."""
    up = recorded_up(run_dir)
    if up is None or not up.process.is_running:
        raise StartupError(
            f"No Bindery runs with the data folder {run_dir.parent}: `make up` starts it, or BINDERY_DATA_DIR names "
            "the data folder of another one."
        )

    return address(up.url, _read_token(run_dir))


def _read_token(run_dir: Path) -> str:
    try:
        return (run_dir / START_TOKEN).read_text().strip()
    except FileNotFoundError:  # it was started without one
        return ""

"""`python -I -S handover.py NAME=DESCRIPTOR… -- COMMAND…`: start a command that inherits open sockets.

They become the descriptors from 3 on, which LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID describe as in sd_listen_fds(3).
The file is run by its path and imports nothing of ours, since it runs at each start of a component.
"""

import os
import sys

FIRST_DESCRIPTOR = 3


def main(arguments: list[str]) -> None:
    """Replace this process by the command; never return."""
    end = arguments.index("--")
    sockets = [argument.rpartition("=") for argument in arguments[:end]]
    for number, (_, _, descriptor) in enumerate(sockets, start=FIRST_DESCRIPTOR):
        os.dup2(int(descriptor), number)  # inheritable

    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(sockets))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _, _ in sockets)

    command = arguments[end + 1 :]
    os.execvp(command[0], command)  # noqa: S606 -- the plan's own command


if __name__ == "__main__":
    main(sys.argv[1:])

"""`python -I -S handover.py NAME=DESCRIPTOR… -- COMMAND…`: become a command that finds its sockets open.

They are descriptors 3 and up, told by LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID as sd_listen_fds(3) says. It is run by
its path and imports nothing of ours, since it stands in front of parts at each of their starts.
"""

import os
import sys

FIRST_DESCRIPTOR = 3


def main(arguments: list[str]) -> None:
    """Never returns."""
    end = arguments.index("--")
    named = [one.rpartition("=") for one in arguments[:end]]
    for number, (_, _, descriptor) in enumerate(named, start=FIRST_DESCRIPTOR):
        os.dup2(int(descriptor), number)  # inheritable
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(named))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _, _ in named)
    command = arguments[end + 1 :]
    os.execvp(command[0], command)  # noqa: S606 -- the plan's own command


if __name__ == "__main__":
    main(sys.argv[1:])

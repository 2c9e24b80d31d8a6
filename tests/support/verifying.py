"""The programs of a case, run in its server as visitors run theirs: in a kernel and in a terminal."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.kernels import Kernel, kernel

_SECONDS = 120
_SAVE = """
import os, pathlib, tempfile
program = pathlib.Path(tempfile.mkdtemp(prefix="verify-")) / "verify"
program.write_bytes({content!r})
program.chmod(0o755)
print(program)
"""
_RUN = """
import subprocess
process = subprocess.run([{program!r}], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
print(process.stdout.decode(errors="replace"))
print("exit status", process.returncode)
"""
_FORGET = "import pathlib, shutil; shutil.rmtree(pathlib.Path({program!r}).parent)"
_ENDED = re.compile(r"exit status (-?[0-9]+)\s")


def verify(url: str, token: str, programs: Mapping[str, bytes], *, server: int, in_terminal: bool) -> None:
    """Run `verify` and `verify.cell` in the server at `url`; fail with what they print."""
    with kernel(url, token, "index.ipynb") as running_kernel:
        running_kernel.run(f"import os; os.environ['SERVER'] = '{server}'")
        if cell := programs.get("verify.cell"):
            running_kernel.run(cell.decode())
        if content := programs.get("verify"):
            with _saved(running_kernel, content) as program:
                _must_be_0("a kernel", running_kernel.run(_RUN.format(program=program)))
                if in_terminal:
                    _must_be_0("a terminal", _run_in_terminal(url, token, program, server))


@contextlib.contextmanager
def _saved(running_kernel: Kernel, content: bytes) -> Iterator[str]:
    """Have a program in the server's temporary folder for the length of the block."""
    program = running_kernel.run(_SAVE.format(content=content)).strip()
    yield program
    running_kernel.run(_FORGET.format(program=program))


def _must_be_0(place: str, output: str) -> None:
    status = _ENDED.search(output)
    assert status is not None, f"verify in {place} did not end: {output}"
    assert status[1] == "0", f"verify in {place}: {output}"


def _run_in_terminal(url: str, token: str, program: str, server: int) -> str:
    """Type the program's name into a new terminal, and return what that shows until it has ended."""
    headers = {"Authorization": f"token {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        reply = client.post("api/terminals")
        assert reply.status_code == 200, reply.text
        name = reply.json()["name"]
        address = f"{url.replace('http', 'ws', 1)}terminals/websocket/{name}"
        try:
            with connect(address, additional_headers=headers, proxy=None) as socket:
                # Split, so that the echo of what is typed is not taken for the end.
                socket.send(json.dumps(["stdin", f"SERVER={server} {program}; echo exit 'status' $?\r"]))
                return _shown(socket)
        finally:
            client.delete(f"api/terminals/{name}")


def _shown(socket: ClientConnection) -> str:
    output = ""
    while not _ENDED.search(output):
        kind, *content = json.loads(socket.recv(timeout=_SECONDS))
        output += content[0] if kind == "stdout" else ""
        assert kind != "disconnect", output
    return output

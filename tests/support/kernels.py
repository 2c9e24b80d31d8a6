"""Cells run in a user's server as a browser runs them: by Jupyter's REST API and its kernel websocket."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect


class Kernel:
    """A kernel of a running server."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session

    def run(self, code: str) -> str:
        """Run a cell and return what it printed. Fails with the traceback when it raises."""
        header = {
            "msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": self._session,
            "username": "test", "version": "5.3", "date": "2024-01-01T00:00:00Z",
        }  # fmt: skip
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        output = ""
        is_idle = has_replied = False
        while not (is_idle and has_replied):
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=120))
            if answer["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            kind = answer["msg_type"]
            reply = answer["content"]
            assert kind != "error", "\n".join(reply["traceback"])
            output += reply["text"] if kind == "stream" else ""
            is_idle = is_idle or (kind == "status" and reply["execution_state"] == "idle")
            has_replied = has_replied or kind == "execute_reply"
        return output


@contextlib.contextmanager
def kernel(server_url: str, token: str, path: str) -> Iterator[Kernel]:
    """Open a session for a notebook at a server, with a kernel and its websocket; closed at the end."""
    headers = {"Authorization": f"token {token}"}
    with httpx.Client(base_url=server_url, headers=headers, timeout=60, trust_env=False) as client:
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        reply = client.post("api/sessions", json=body)
        assert reply.status_code == 201, reply.text
        kernel_id = reply.json()["kernel"]["id"]
        session = uuid.uuid4().hex
        address = f"{server_url.replace('http', 'ws', 1)}api/kernels/{kernel_id}/channels?session_id={session}"
        with connect(address, additional_headers=headers, max_size=None, proxy=None) as socket:
            yield Kernel(socket, session)


def first_cell(server_url: str, token: str, path: str) -> str:
    """Return the source of a notebook's first code cell, as the server has it."""
    reply = httpx.get(f"{server_url}api/contents/{path}", headers={"Authorization": f"token {token}"}, trust_env=False)
    assert reply.status_code == 200, reply.text
    cells = reply.json()["content"]["cells"]
    return str(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))

"""A stand-in for JupyterLab: it installs and answers within milliseconds, where a test is not about Jupyter itself.

It speaks the three addresses that hub and spawner ask, and takes the arguments and the environment that the spawner
gives. `tests/e2e/test_main_job.py` uses the real one.
"""

import zipfile
from pathlib import Path

NAME = "quick_jupyter"
VERSION = "1.0"

SERVER = """
import json, os, sys
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ARGUMENTS = dict(one.removeprefix("--").split("=", 1) for one in sys.argv[1:] if "=" in one)
BASE = ARGUMENTS.get("ServerApp.base_url", "/")
BEGUN = datetime.now(timezone.utc).isoformat()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.removeprefix(BASE).partition("?")
        token = os.environ["JUPYTER_TOKEN"]
        if path == "api":
            self.answer(200, {"version": "quick"})
        elif f"token={token}" not in query and self.headers.get("Authorization") != f"token {token}":
            self.answer(403, {"message": "Forbidden"})
        elif path == "api/status":
            self.answer(200, {"connections": 0, "kernels": 0, "last_activity": BEGUN})
        else:
            cookie = self.headers.get("Cookie", "")
            self.answer(200, {"path": path, "files": sorted(os.listdir(".")), "cookie": cookie})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    address = (ARGUMENTS.get("ServerApp.ip") or "127.0.0.1", int(ARGUMENTS["ServerApp.port"]))
    server = ThreadingHTTPServer(address, Handler)
    if folder := os.environ.get("JUPYTER_RUNTIME_DIR"):
        with open(f"{folder}/jpserver-{os.getpid()}.json", "w") as info:
            json.dump({"pid": os.getpid(), "port": server.server_port}, info)
    server.serve_forever()
"""


def quick_jupyter_wheel(folder: Path) -> Path:
    """Write the wheel into `folder`; what BINDERY_BASE_PACKAGES is set to."""
    info = f"{NAME}-{VERSION}.dist-info"
    files = {
        "jupyterlab/__init__.py": SERVER,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\njupyter-lab = jupyterlab:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel

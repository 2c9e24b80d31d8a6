"""Runs in a Job in place of repo2docker: prints numbered lines, and puts a tiny image into the registry.

What it is told stands in the repository's ref: `<salt>.lines-40.ms-100.exit-0`. With `credentials-1` it says which it
has been given, by their hashes alone; with `told-1` its arguments; with `leak-1` git's credentials themselves. With
`held-1` it prints lines until there is a file `/tmp/end`.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def push_image(registry: str, name: str, tag: str) -> None:
    """Put an image of one layer, all by the registry's HTTP API."""

    def send(method: str, url: str, body: bytes = b"", kind: str = "application/octet-stream") -> str:
        request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return str(reply.headers.get("Location") or "")

    def blob(content: bytes) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        place = send("POST", f"{registry}/v2/{name}/blobs/uploads/")
        place = place if place.startswith("http") else registry + place
        place = registry + place[place.index("/v2/") :]
        send("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", content)
        return {"digest": digest, "size": len(content)}

    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}}).encode())
    kind = "application/vnd.oci.image."
    layer = blob(f"{name}:{tag}".encode()) | {"mediaType": f"{kind}layer.v1.tar"}
    manifest = {
        "schemaVersion": 2, "mediaType": f"{kind}manifest.v1+json",
        "config": config | {"mediaType": f"{kind}config.v1+json"}, "layers": [layer],
    }  # fmt: skip
    send("PUT", f"{registry}/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), f"{kind}manifest.v1+json")


def tell_credentials(registry: str) -> None:
    """Say what git would answer its servers, and what Docker's client would push with."""

    def tell(heading: str, secret: str) -> None:
        print(f"{heading}: {hashlib.sha256(secret.encode()).hexdigest() if secret else 'none'}", flush=True)

    for host in ("example.org", "elsewhere.example.org"):
        helper = subprocess.run(
            ["git", "credential", "fill"], input=f"protocol=https\nhost={host}\n\n", capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        answers = dict(line.split("=", 1) for line in helper.stdout.splitlines() if "=" in line)
        tell(f"git at {host}", answers.get("password", ""))
    file = Path.home() / ".docker" / "config.json"
    auths = json.loads(file.read_text())["auths"] if file.is_file() else {}
    tell("docker", auths.get(registry, {}).get("auth", ""))
    config = Path("/etc/bindery-build/repo2docker_config.py").read_text()
    own = [line for line in config.splitlines() if line.startswith("c.ContainerEngine.registry_credentials = ")]
    tell("repo2docker", json.dumps(ast.literal_eval(own[0].partition(" = ")[2])) if own else "")


def main() -> None:
    options = dict(part.removeprefix("--").split("=", 1) for part in sys.argv if part.startswith("--") and "=" in part)
    orders = dict(part.split("-", 1) for part in options["ref"].split(".") if "-" in part)
    count = int(orders.get("lines", "3"))
    pause = int(orders.get("ms", "0")) / 1000
    print(f"this is {os.environ['HOSTNAME']}", flush=True)
    number = 0
    while number < count or ("held" in orders and not Path("/tmp/end").exists()):
        number += 1
        print(json.dumps({"phase": "building", "message": f"line {number}\n"}), flush=True)
        for _ in range(int(orders.get("kib", "0"))):
            print("x" * 1023, flush=True)
        time.sleep(pause)
    if "told" in orders:
        print(f"this was told: {json.dumps(sys.argv[1:])}", flush=True)
    if "credentials" in orders:
        tell_credentials(options["image-name"].partition("/")[0])
    if "leak" in orders:
        print(f"this leaks: {os.environ['GIT_CREDENTIAL_ENV']}", flush=True)
    if "hostile" in orders:
        sys.stdout.buffer.write(b"\xff\x00 \x1b[31m not text\n" + b"y" * (3 << 20) + b'\n\n{\n{"message": 7}\n')
        sys.stdout.flush()
    _ballast = [os.urandom(1 << 20) for _ in range(int(orders.get("mib", "0")))]
    print(f"those were {number} lines", flush=True)
    if orders.get("push", "1") == "1":
        image = options["image-name"].partition("/")[2]
        name, _, tag = image.rpartition(":")
        push_image(os.environ["NOOP_REGISTRY"], name, tag)
    time.sleep(int(orders.get("sleep", "0")))
    sys.exit(int(orders.get("exit", "0")))


main()

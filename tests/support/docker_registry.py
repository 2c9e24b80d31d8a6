"""Debian's docker-registry on a free port, and images put into it over HTTP, without an engine."""

import contextlib
import gzip
import hashlib
import io
import json
import ssl
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import bcrypt
import yaml

from tests.support.engine import install
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.registry_token_server import TokenServer

PROGRAM = "docker-registry"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@dataclass
class Registry:
    """One registry process; it may be stopped and started again on its storage and port.

    It listens at `host` (empty: at all addresses). `tls` is a folder with `ca.pem` and `key.pem`; `users` are names
    with passwords (basic), `tokens` signs for it.
    Raise `NoEngineError` where the program is missing and can't be installed.
    """

    folder: Path
    _: KW_ONLY
    users: Mapping[str, str] = field(default_factory=dict)
    tokens: TokenServer | None = None
    tls: Path | None = None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        install(f"{PROGRAM}={PROGRAM}")
        self.port = free_ports(1, avoid=set())[0]
        self.process: subprocess.Popen[bytes] | None = None
        self._config = self.folder / "registry.yml"
        self.configure()

    def configure(self) -> None:
        """Write its configuration; it is read at the next start."""
        self._config.write_text(yaml.safe_dump(self._configured()))

    def _configured(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": f"{self.host}:{self.port}", "secret": "of the tests"}
        if self.tls:
            http["tls"] = {"certificate": str(self.tls / "ca.pem"), "key": str(self.tls / "key.pem")}
        auth: dict[str, Any] = {}
        if self.users:
            file = self.folder / "htpasswd"
            lines = [f"{user}:{_hashed(password)}\n" for user, password in self.users.items()]
            file.write_text("".join(lines))
            auth["htpasswd"] = {"realm": "registry of the tests", "path": str(file)}
        if self.tokens:
            auth["token"] = self.tokens.as_configured()
        return {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "storage")}, "delete": {"enabled": True}},
            "http": http,
        } | ({"auth": auth} if auth else {})

    def __enter__(self) -> "Registry":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "registry.log").open("ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", PROGRAM, "serve", str(self._config)]  # it ends with its test
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._answers, "the registry answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "registry.log").read_text()
        with contextlib.suppress(OSError):
            return self.call("GET", "/v2/").status in {200, 401}
        return False

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(60)

    @property
    def address(self) -> str:
        """The address in image names; with TLS it is a name, as in the certificate."""
        return f"{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def call(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> "Answer":
        """Send one request and return its answer, with any status. Raise `OSError` when there is no answer."""
        request = urllib.request.Request(
            urljoin(self.url, path), data=body, method=method,
            headers={"Content-Type": "application/octet-stream"} | dict(headers or {}),
        )  # fmt: skip
        context = ssl.create_default_context(cafile=self.tls / "ca.pem") if self.tls else None
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as reply:
                return Answer(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def push(
        self, name: str, *, kind: str = OCI_MANIFEST, salt: str = "", headers: Mapping[str, str] | None = None
    ) -> str:
        """Put a tiny image, or with an index's `kind` a list of one, under `repository:tag`; returns its digest."""
        repository, _, tag = name.rpartition(":")
        if kind in {OCI_INDEX, DOCKER_LIST}:
            single = OCI_MANIFEST if kind == OCI_INDEX else DOCKER_MANIFEST
            manifest = self._image(repository, single, salt, headers)
            digest = self._put_manifest(repository, _digest(manifest), single, manifest, headers)
            entry = {"mediaType": single, "digest": digest, "size": len(manifest)}
            entry |= {"platform": {"os": "linux", "architecture": "amd64"}}
            body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
        else:
            body = self._image(repository, kind, salt, headers)
        return self._put_manifest(repository, tag, kind, body, headers)

    def add_layer(self, name: str, file: str, content: bytes) -> str:
        """Put one more layer, with one file, on the image under `repository:tag`; returns its new digest."""
        repository, _, tag = name.rpartition(":")
        accept_headers = {"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
        reply = self.call("GET", f"/v2/{repository}/manifests/{tag}", headers=accept_headers)
        manifest = json.loads(reply.body)
        config = json.loads(self.call("GET", f"/v2/{repository}/blobs/{manifest['config']['digest']}").body)
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            member = tarfile.TarInfo(file)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        config["rootfs"]["diff_ids"].append(_digest(layer.getvalue()))
        config.get("history", []).append({"created_by": "the tests"})
        packed = gzip.compress(layer.getvalue(), 1)
        described = json.dumps(config).encode()
        manifest["config"] |= {"size": len(described), "digest": self._put_blob(repository, described, None)}
        kind = manifest["layers"][0]["mediaType"]
        digest = self._put_blob(repository, packed, None)
        manifest["layers"].append({"mediaType": kind, "size": len(packed), "digest": digest})
        return self._put_manifest(repository, tag, manifest["mediaType"], json.dumps(manifest).encode(), None)

    def _image(self, repository: str, kind: str, salt: str, headers: Mapping[str, str] | None) -> bytes:
        docker = kind == DOCKER_MANIFEST
        config = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"salt": salt}}}
        config |= {"rootfs": {"type": "layers", "diff_ids": []}}
        types = (
            ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip")
            if docker
            else ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar")
        )
        blobs = [
            {"mediaType": kind_of, "size": len(blob), "digest": self._put_blob(repository, blob, headers)}
            for kind_of, blob in zip(types, (json.dumps(config).encode(), f"layer {salt}".encode()), strict=True)
        ]
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": blobs[0], "layers": blobs[1:]}
        return json.dumps(manifest).encode()

    def _put_blob(self, repository: str, blob: bytes, headers: Mapping[str, str] | None) -> str:
        upload = self.call("POST", f"/v2/{repository}/blobs/uploads/", body=b"", headers=headers)
        assert upload.status == 202, upload
        place = f"{upload.headers['Location']}&digest={_digest(blob)}"
        reply = self.call("PUT", place, body=blob, headers=headers)
        assert reply.status == 201, reply
        return _digest(blob)

    def _put_manifest(
        self, repository: str, tag: str, kind: str, body: bytes, headers: Mapping[str, str] | None
    ) -> str:
        all_headers = dict(headers or {}) | {"Content-Type": kind}
        reply = self.call("PUT", f"/v2/{repository}/manifests/{tag}", body=body, headers=all_headers)
        assert reply.status == 201, reply
        return _digest(body)


@dataclass(frozen=True)
class Answer:
    """What the registry answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix=b"2a")).decode()

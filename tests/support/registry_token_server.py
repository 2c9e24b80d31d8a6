"""A token server as a registry's `auth: token` names one: it signs what it grants, and the registry verifies that.

Speaks distribution.github.io/distribution/spec/auth/token (GET, basic) and .../oauth (POST, refresh token).
"""

import base64
import datetime
import json
import ssl
import threading
import time
from dataclasses import KW_ONLY, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

SERVICE = "registry of the tests"
ISSUER = "token server of the tests"


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A request for a token, and its user (empty: anonymous)."""

    user: str
    scope: str
    service: str
    client_id: str = ""


@dataclass
class TokenServer:
    """A token server on a free port: it grants pulls to its users, and to anonymous ones those of `public`."""

    folder: Path
    _: KW_ONLY
    users: dict[str, str] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    """User by refresh token."""
    public: set[str] = field(default_factory=set)
    life_seconds: float = 300.0
    grants: list[Grant] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(7)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=4))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_file = self.folder / "token-certificate.pem"
        self.certificate_file.write_bytes(self._certificate.public_bytes(Encoding.PEM))
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                self._answer(*server.granted(_basic_user(self.headers.get("Authorization", ""), server.users), query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                user = server.refresh_tokens.get(form.get("refresh_token", ""))
                is_asked_right = form.get("grant_type") == "refresh_token" and "client_id" in form
                self._answer(*server.granted(user if is_asked_right else None, form, field="access_token"))

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "TokenServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def granted(
        self, user: str | None, parameters: dict[str, str], *, field: str = "token"
    ) -> tuple[int, dict[str, Any]]:
        """Return the answer to a request; `user` is None if the login is wrong, and empty without a login."""
        if user is None:
            return 401, {"details": "incorrect username or password"}
        scope = parameters.get("scope", "")
        self.grants.append(
            Grant(
                user=user, scope=scope, service=parameters.get("service", ""), client_id=parameters.get("client_id", "")
            )
        )
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        may = kind == "repository" and (user or name in self.public)
        access = [{"type": kind, "name": name, "actions": actions.split(",")}] if may else []
        return 200, {field: self.sign(access, user), "expires_in": int(self.life_seconds)}

    def sign(self, access: list[dict[str, Any]], user: str = "") -> str:
        """Return a token that the registry accepts until `life_seconds` from now (and its own leeway of a minute)."""
        now = time.time()
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": "1", "access": access,
            "iat": int(now), "nbf": int(now) - 10, "exp": int(now + self.life_seconds),
        }  # fmt: skip
        der = ssl.PEM_cert_to_DER_cert(self.certificate_file.read_text())
        return jwt.encode(claims, self._key, "ES256", headers={"x5c": [base64.b64encode(der).decode()]})

    def push_token(self, repository: str) -> str:
        """Return a token for putting something into a repository."""
        return self.sign([{"type": "repository", "name": repository, "actions": ["pull", "push"]}], "tests")

    def as_configured(self) -> dict[str, str]:
        """Return the registry's `auth.token` section."""
        return {
            "realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.certificate_file)
        }  # fmt: skip


def _basic_user(header: str, users: dict[str, str]) -> str | None:
    if not header:
        return ""
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return user if users.get(user) == password else None

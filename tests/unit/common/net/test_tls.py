"""Who reads the certificates that servers are checked against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.tls import tls_context
from tests.support.forge import Forge, Page


@pytest.fixture(autouse=True)
def _no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


async def test_requests_by_http_read_no_certificates(tmp_path: Path) -> None:
    with Forge(tmp_path / "forge") as forge:
        forge.pages["/here"] = Page(200, {}, b"hello")
        async with CheckedClient(NetworkPolicy.of("127.0.0.0/8")) as client:
            assert (await client.get(f"{forge.url}/here")).body == b"hello"
            with pytest.raises(FileNotFoundError):
                await client.get(f"https://127.0.0.1:{forge.port}/here")

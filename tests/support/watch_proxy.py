"""A relay before a Kubernetes API server that cuts a line of a watch, or lets watches fall silent without an end."""

import asyncio
import base64
import contextlib
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_CHUNK_BYTES = 65536
_WATCH = re.compile(rb"GET [^ ?]*/(\w+)\?[^ ]*watch=true[^ ]* HTTP/1\.1\r\n")
_LINE = b'{"type":'


class WatchProxy:
    """Passes on all that comes, except for watches that it is told to disturb.

    It requests watches by HTTP/1.0, whose replies have no chunks: one that is cut off looks like a whole one.
    """

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self._target = target
        self._tls = tls
        self._to_cut: set[str] = set()
        self._watches: dict[asyncio.StreamWriter, str] = {}
        self._silenced: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        """How many lines were cut."""

    def cut_next_line(self, resource: str) -> None:
        """Cut the next line of a watch of `pods`, `jobs` or `events` in its middle, and end that reply."""
        self._to_cut.add(resource)

    def silence_watches(self) -> None:
        """Let nothing more through to the watches that are open, and leave them open. New ones are not concerned."""
        self._silenced |= set(self._watches)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection of a client until either side closes it."""
        with contextlib.suppress(OSError):
            host, port = self._target
            far_reader, far_writer = await asyncio.open_connection(host, port, ssl=self._tls)
            replies = asyncio.create_task(self._pass_replies(far_reader, writer))
            while content := await reader.read(_CHUNK_BYTES):
                far_writer.write(self._note_request(writer, content))
                await far_writer.drain()
            far_writer.close()
            await replies
        writer.close()

    def _note_request(self, writer: asyncio.StreamWriter, content: bytes) -> bytes:
        watch = _WATCH.match(content)
        if watch is None:
            return content
        self._watches[writer] = watch[1].decode()
        return content.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)

    async def _pass_replies(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await far_reader.read(_CHUNK_BYTES):
                if writer in self._silenced:
                    continue
                resource = self._watches.get(writer, "")
                is_cut = resource in self._to_cut and _LINE in content
                if is_cut:
                    self._to_cut.discard(resource)
                    self.cuts += 1
                    start = content.index(_LINE)
                    content = content[: start + len(content[start:].partition(b"\n")[0]) // 2]
                writer.write(content)
                await writer.drain()
                if is_cut:
                    break
        self._watches.pop(writer, None)
        if writer not in self._silenced:
            writer.close()


@contextlib.contextmanager
def watch_proxy(kubeconfig: Path) -> Iterator[tuple[WatchProxy, Path]]:
    """Relay to the API server of a kubeconfig, by HTTP; yield the proxy and the kubeconfig that leads through it."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    [entry] = config["clusters"]
    url = urlsplit(entry["cluster"]["server"])
    tls = ssl.create_default_context(cadata=_authority(entry["cluster"])) if url.scheme == "https" else None
    proxy = WatchProxy((str(url.hostname), url.port or 443), tls)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(proxy.serve, "127.0.0.1", 0), loop)
    server = starting.result(10)
    try:
        entry["cluster"] = {"server": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        path = kubeconfig.with_name(f"proxied-{kubeconfig.name}")
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        yield proxy, path
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _authority(cluster: dict[str, Any]) -> str:
    """Return the certificate of the authority that signed the API server's."""
    if "certificate-authority" in cluster:
        return Path(cluster["certificate-authority"]).read_text()
    return base64.b64decode(cluster["certificate-authority-data"]).decode()

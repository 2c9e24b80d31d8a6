"""The gateway that the tests of the client and of the command line ask."""

import threading
from collections.abc import Iterator

import pytest

from tests.support.scripted_gateway import Gateway


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()

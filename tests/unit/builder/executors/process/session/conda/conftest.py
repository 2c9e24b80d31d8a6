"""A channel of small packages on loopback, and installations from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.conda_channel import ChannelServer, make_channel
from tests.support.conda_installs import Installs
from tests.support.conda_packages import places, stand_in, tool


@pytest.fixture
def installs(tmp_path: Path) -> Iterator[Installs]:
    make_channel(tmp_path / "channels" / "main", [stand_in(), tool(), places()])
    with ChannelServer(tmp_path / "channels") as server:
        yield Installs(tmp_path, server)

"""What a text is read as, for the tests of this folder."""

import pytest

from services.common.models.errors import BinderyError
from services.gateway.launches.addresses.reader import read_address
from services.gateway.launches.repository_types import RepositoryType
from tests.support.sample_providers import TYPES


def links(text: str, provider: str = "", types: list[RepositoryType] = TYPES) -> list[str]:
    """Return the links of every reading of a text, without their host."""
    return [candidate.link.url("") for candidate in read_address(text, types, provider).candidates]


def refusal(text: str, provider: str = "", types: list[RepositoryType] = TYPES) -> BinderyError:
    """Return the error that a text is refused with."""
    with pytest.raises(BinderyError) as raised:
        read_address(text, types, provider)
    return raised.value

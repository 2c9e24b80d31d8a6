"""What tests of seats share."""

import pytest

from services.common.context import ProcessContext


@pytest.fixture
async def are_counted(context: ProcessContext) -> None:
    """It is known what runs: nothing."""
    await context.redis.set(context.keys("seats:counted"), "yes")

"""An API server without a cluster, for each test."""

import pytest

from tests.support.kubernetes_api import KubernetesApi


@pytest.fixture
async def api() -> KubernetesApi:
    return KubernetesApi()

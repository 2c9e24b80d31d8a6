"""A forge for the tests of this folder."""

from tests.support.forge_fixtures import forge

__all__ = ["forge"]

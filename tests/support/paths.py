"""Paths of the checkout, of the tests and of recorded replies."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
RECORDED = TESTS / "contract" / "recorded"

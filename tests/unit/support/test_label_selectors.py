"""A selector matches labels that fulfil all of its requirements."""

from typing import Any

import pytest

from tests.support.label_selectors import matches


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "hub"}}, True),
        ({"matchLabels": {"app": "hub", "tier": "back"}}, True),
        ({"matchLabels": {"app": "hub", "tier": "front"}}, False),
        ({"matchLabels": {"zone": "a"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["hub", "proxy"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["proxy"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["proxy"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["hub"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "hub"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
    ],
)
def test_labels_must_fulfil_all_of_a_selector(selector: dict[str, Any], expected: bool) -> None:
    assert matches(selector, {"app": "hub", "tier": "back"}) == expected


def test_an_operator_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no operator Is"):
        matches({"matchExpressions": [{"key": "app", "operator": "Is", "values": ["hub"]}]}, {})

"""What docs/hubs.md says of `bindery hub-values` is what the command takes."""

import inspect
import re

import yaml

from bindery.cli.hub_values import hub_values
from tests.support.page_commands import section
from tests.support.zero_to_jupyterhub import values_of

PAGE = section("hubs.md", "### zero-to-jupyterhub")


def test_the_page_has_every_option_with_its_default() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `--")]
    told = {
        option: default.strip().strip("`")
        for options, defaults in rows
        for option, default in zip(re.findall(r"--[a-z-]+", options), defaults.split(","), strict=True)
    }
    parameters = inspect.signature(hub_values).parameters.values()
    assert told == {
        f"--{parameter.name.replace('_', '-')}": str(parameter.default or "none") for parameter in parameters
    }


def test_the_page_names_values_that_are_there() -> None:
    values = values_of()
    assert "hub.services.bindery-launcher.apiToken" in PAGE
    for named in ("hub.extraFiles", "singleuser.extraLabels", "singleuser.cloudMetadata.blockWithIptables"):
        assert f"`{named}`" in PAGE
        value = values
        for key in named.split("."):
            value = value[key]
        assert value, yaml.safe_dump(value)

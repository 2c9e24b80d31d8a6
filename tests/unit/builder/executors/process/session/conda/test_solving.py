"""Which packages are chosen, and the sentence if none can be."""

import pytest

from services.builder.executors.process.session.conda.sentences import first_sentence, no_solution
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment
from tests.support.conda_channel import CondaPackage
from tests.support.conda_installs import Installs
from tests.support.conda_packages import FULL_VERSION, stand_in, tool

JUPYTER = ("jupyterlab", "notebook")


async def test_without_a_pin_python_is_the_operators_choice(installs: Installs) -> None:
    installs.channel("main", [stand_in("3.10.1"), stand_in("3.12.4"), stand_in("3.13.0")])
    assert (await installs.install(default_python="3.12")).packages == {"python": "3.12.4"}
    assert (await installs.install("python >=3.9", default_python="3.10.9")).packages == {"python": "3.10.1"}
    environment = CondaEnvironment(file="environment.yml", dependencies=("python=3.13",), python="3.13")
    pinned = await installs.install_environment(environment, default_python="3.12")
    assert pinned.packages == {"python": "3.13.0"}


async def test_a_package_that_is_not_there_for_the_default_python_brings_another_one(installs: Installs) -> None:
    old = CondaPackage(name="old", depends=("python 3.9.*",))
    installs.channel("main", [stand_in("3.9.1"), stand_in("3.12.4"), old])
    installed = await installs.install("old", default_python="3.12")
    assert installed.packages == {"python": "3.9.1", "old": "1.0"}
    assert "There is no solution with Python 3.12, the default for repositories" in installed.text


async def test_the_first_channel_that_has_a_package_gives_it(installs: Installs) -> None:
    installs.channel("lab", [tool("1.0")])
    installs.channel("main", [stand_in(), tool("2.0"), CondaPackage(name="wants", depends=("tool 2.*",))])
    assert (await installs.install("tool", channels=("lab",))).packages["tool"] == "1.0"
    needs_another = await installs.install("wants", channels=("lab",))
    assert needs_another.packages["tool"] == "2.0"
    assert "There is no solution with each package from the first channel that has it" in needs_another.text


async def test_a_dependency_may_name_its_channel(installs: Installs) -> None:
    installs.channel("lab", [tool("0.5")])
    installed = await installs.install("lab::tool", channels=("main",))
    assert installed.packages["tool"] == "0.5"


async def test_jupyter_comes_from_the_channels_if_they_have_all_of_it(installs: Installs) -> None:
    lab, notebook = (CondaPackage(name=name) for name in JUPYTER)
    installs.channel("main", [stand_in(), lab])
    without = await installs.install(conda_base_packages=JUPYTER)
    assert not without.has_base
    assert without.packages.keys() == {"python"}
    assert "The channels have no notebook: Jupyter comes from the package index" in without.text
    installs.channel("all", [stand_in(), lab, notebook])
    installed = await installs.install(conda_base_packages=JUPYTER, conda_default_channels=("all",))
    assert installed.has_base
    assert installed.packages.keys() == {"python", *JUPYTER}


async def test_conda_is_left_out_where_there_is_none(installs: Installs) -> None:
    lab = CondaPackage(name="jupyterlab")
    base = ("jupyterlab", "conda")
    installs.channel("main", [stand_in(), lab])
    missing = await installs.install(conda_base_packages=base)
    assert (missing.has_base, set(missing.packages)) == (True, {"python", "jupyterlab"})
    installs.channel("late", [stand_in(), lab, CondaPackage(name="conda", depends=("python 3.2.*",))])
    late = await installs.install(conda_base_packages=base, conda_default_channels=("late",))
    assert (late.has_base, set(late.packages)) == (True, {"python", "jupyterlab"})
    assert "There is no solution with conda in the environment" in late.text
    installs.channel("now", [stand_in(), lab, CondaPackage(name="conda", depends=("python",))])
    now = await installs.install(conda_base_packages=base, conda_default_channels=("now",))
    assert set(now.packages) == {"python", "jupyterlab", "conda"}


async def test_rs_kernel_comes_with_r(installs: Installs) -> None:
    installs.channel("main", [stand_in(), CondaPackage(name="r-base"), CondaPackage(name="r-irkernel")])
    assert "r-irkernel" in (await installs.install("r-base")).packages


async def test_a_package_that_no_channel_has_is_named(installs: Installs) -> None:
    installed = await installs.install("tool", "no-such-package")
    assert installed.code == "build_failed"
    assert installed.message == "environment.yml can't be solved: No candidates were found for no-such-package *"


async def test_requirements_that_contradict_each_other_are_named_and_explained(installs: Installs) -> None:
    wants = [CondaPackage(name=f"wants-{n}", depends=(f"tool {n}.*", "python")) for n in (1, 2)]
    installs.channel("main", [stand_in(), tool("1.0"), tool("2.0"), *wants])
    installed = await installs.install("wants-1", "wants-2")
    assert installed.message.startswith("environment.yml can't be solved: ")
    assert "\n" not in installed.message
    assert "wants-1" in installed.message
    assert "wants-2" in installed.message
    assert "tool 2" in installed.text


@pytest.mark.parametrize("text", ["numpy ==", "numpy=>1", "*"])
async def test_a_dependency_that_is_none_is_quoted(installs: Installs, text: str) -> None:
    installed = await installs.install(text)
    assert f"environment.yml: {text!r} is not a package as conda understands it" in installed.message


def test_a_tree_of_reasons_becomes_a_sentence() -> None:
    tree = (
        "Cannot solve the request because of: The following packages are incompatible\n"
        "├─ a * can be installed with any of the following options:\n"
        "│  └─ a 1.0 would require\n"
        "│     └─ c 1.*, which can be installed\n"
        "└─ b 2.* cannot be installed because there are no viable options:\n"
        "   └─ b 2.0\n"
    )
    assert no_solution(tree) == (
        "The following packages are incompatible: a *; b 2.* cannot be installed because there are no viable options"
    )
    alone = "Cannot solve the request because of: b * cannot be installed because there are no viable options:\n"
    reason = "b * cannot be installed because there are no viable options"
    assert no_solution(f"{alone}└─ b 2.0 would require\n   └─ c *") == f"{reason}: b 2.0 would require"
    assert no_solution(alone) == reason


def test_an_error_with_causes_is_told_by_its_first_and_last() -> None:
    assert first_sentence("no index\nCaused by: no connection\nCaused by: refused\n") == "no index: refused"
    where = "retried\nCaused by: error for (http://a.org/x)\nCaused by: late"
    assert first_sentence(where) == "error for (http://a.org/x): late"
    assert first_sentence(" alone ") == "alone"
    assert first_sentence("") == "py-rattler says nothing"


async def test_the_version_of_this_python_is_the_default(installs: Installs) -> None:
    installs.channel("main", [stand_in(), stand_in("3.99.0")])
    assert (await installs.install()).packages == {"python": FULL_VERSION}

"""`make test-docker` says in one line that there is no engine, and names a given registry as the cluster does."""

import sys
from contextlib import AbstractContextManager

import pytest

from tests.support import engine


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_an_engine_no_test_is_begun_and_one_line_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    def none() -> AbstractContextManager[engine.Engine]:
        raise engine.NoEngineError("no container engine answers")

    monkeypatch.setattr(engine, "engine", none)
    monkeypatch.setattr(sys, "argv", ["engine", "run", "--", sys.executable, "-c", "print('begun')"])
    monkeypatch.setenv("CI", ci)
    with pytest.raises(SystemExit) as exit_info:
        engine.main()
    assert exit_info.value.code == code
    assert capsys.readouterr().out == "no test on a container engine was run: no container engine answers\n"


def test_pods_reach_the_registry_of_this_machine_by_its_host_and_a_given_one_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "REGISTRY", engine.OUR_REGISTRY)
    assert engine.registry_url("10.0.0.1") == "http://10.0.0.1:5000"
    monkeypatch.setattr(engine, "REGISTRY", "registry.example.org:80")
    assert engine.registry_url("10.0.0.1") == "http://registry.example.org:80"

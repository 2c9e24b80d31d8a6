"""The command line as a whole: help, version, exit statuses, and what a command imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from bindery.cli import main
from bindery.cli.app import app
from deploy.local.settings import CHECKOUT
from services.common.version import VERSION

HERE = ["up", "url", "stop", "clean", "doctor", "check"]
IN_A_CLUSTER = ["hub-values"]
AT_A_GATEWAY = ["launch", "log", "cancel", "queue"]
OF_OPERATORS = ["ban", "allow", "policy"]
ALL = [*HERE, *IN_A_CLUSTER, *AT_A_GATEWAY, *OF_OPERATORS]


def test_every_command_has_a_file_and_every_other_file_is_shared() -> None:
    shared = {"__init__", "app", "checkout", "gateway", "rules", "terminal"}
    files = {path.stem for path in Path(sys.modules["bindery.cli"].__path__[0]).glob("*.py")}
    commands = {name for name in app if not name.startswith("-")}
    assert commands == set(ALL)
    assert {name.replace("-", "_") for name in commands} == files - shared


def test_help_names_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in ALL:
        row = next(line for line in out.splitlines() if line.startswith(f"│ {name} "))
        assert len(row.split()) > 4


@pytest.mark.parametrize("command", ALL)
def test_each_command_has_help_of_its_own(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(f"Usage: bindery {command}")
    assert ("--gateway" in out) is (command in {*AT_A_GATEWAY, *OF_OPERATORS})


def test_help_shows_the_gateway_that_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_GATEWAY_URL", "http://gateway.test")
    main(["queue", "--help"])
    assert "[default: http://gateway.test]" in capsys.readouterr().out


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bindery {VERSION}\n"


def test_without_a_command_help_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: bindery COMMAND" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lunch"], 'Did you mean "launch"'),
        (["launch"], "PROVIDER/SPEC"),
        (["launch", "gh/a/b", "c"], "'c'"),
        (["log", "1", "--lines", "all"], "--lines"),
        (["stop", "--now"], "--now"),
        (["hub-values", "--max-age", "6h"], "--max-age"),
    ],
)
def test_arguments_that_make_no_sense_end_with_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        (["launch", "gh/a/b/HEAD", "--gateway", "http://127.0.0.1:1"], {"deploy", "services", "pydantic"}),
        (["--help"], {"deploy", "services", "pydantic", "httpx"}),
        (["stop"], {"services"}),
        (["hub-values"], {"services", "jupyterhub", "pydantic"}),
        (["check"], {"services", "deploy", "pydantic", "packaging"}),
    ],
)
def test_a_command_imports_only_what_it_needs(tmp_path: Path, arguments: list[str], never: set[str]) -> None:
    code = (
        "import sys; from bindery.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    environ = {"BINDERY_DATA_DIR": str(tmp_path / "data")}
    result = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=True)
    imported = set(result.stderr.splitlines()[-1].split())
    assert "bindery" in imported
    assert imported.isdisjoint(never)


def test_a_closed_reader_causes_no_traceback() -> None:
    command = f"{sys.executable} -c 'from bindery.cli import main; main([\"--version\"])' | true"
    result = subprocess.run(["/bin/sh", "-c", command], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert result.stderr == ""

"""What activate scripts change is recorded once, and is the same for a build's scripts and for servers."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.builder.executors.process.session.conda.activation import Activation, record_activation
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.image_runtime.variables import activated, read_activation
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.plan.build_plan import CondaEnvironment

ENVIRONMENT = CondaEnvironment(file="environment.yml", name="course", variables={"SEED": "42"})


async def _record(tmp_path: Path, scripts: Mapping[str, str], *, timeout_seconds: float = 20) -> Activation:
    folder = tmp_path / "env" / "etc" / "conda" / "activate.d"
    folder.mkdir(parents=True)
    for name, text in scripts.items():
        (folder / name).write_text(text)
    (tmp_path / "home").mkdir()
    return await record_activation(
        ENVIRONMENT,
        prefix=tmp_path / "env",
        env={
            "BINDERY_RUN": str(tmp_path / "home"),
            "HOME": str(tmp_path / "home"),
            "PATH": "/usr/bin:/bin",
            "VIRTUAL_ENV": "/venv",
            "KEPT": "1",
            "GONE": "1",
        },
        folder=tmp_path,
        log=BuildLog(tmp_path / "log", max_line_bytes=1000, max_log_bytes=10**6),
        timeout_seconds=timeout_seconds,
        max_line_bytes=1000,
    )


async def test_an_activation_is_what_the_scripts_change(tmp_path: Path) -> None:
    scripts = {
        "1.sh": "export DATA=$CONDA_PREFIX/share\nexport LINES='one\ntwo='\nunset GONE\necho said\n",
        "2.sh": "export PATH=$CONDA_PREFIX/opt:$PATH:/late\nexport DATA=$DATA/$SEED\nf() { :; }\nexport -f f\n",
        "3.txt": "export OTHER=1\n",
    }
    activation = await _record(tmp_path, scripts)
    prefix = tmp_path / "env"
    assert activation.path == (f"{prefix}/opt", f"{prefix}/bin", "/late")
    assert activation.removed == ("GONE", "VIRTUAL_ENV")
    assert activation.variables == {
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": "course",
        "CONDA_SHLVL": "1",
        "CONDA_PROMPT_MODIFIER": "",
        "SEED": "42",
        "DATA": f"{prefix}/share/42",
        "LINES": "one\ntwo=",
    }
    assert "said" in (tmp_path / "log").read_text()


async def test_it_is_applied_to_what_runs_in_the_image(tmp_path: Path) -> None:
    activation = await _record(tmp_path, {"1.sh": "export A=2\nunset GONE\n"})
    (tmp_path / "activation.json").write_text(activation.model_dump_json())
    prefix = tmp_path / "env"
    env = {"PATH": f"/opt/bin:{prefix}/bin:/usr/bin", "A": "1", "GONE": "1", "VIRTUAL_ENV": "/venv", "B": "1"}
    expected = {"PATH": f"{prefix}/bin:/opt/bin:/usr/bin", "A": "2", "B": "1"}
    after = activated(env, read_activation(tmp_path))
    assert after.items() >= expected.items()
    assert not after.keys() & {"GONE", "VIRTUAL_ENV"}


def test_an_image_without_conda_changes_nothing(tmp_path: Path) -> None:
    assert activated({"A": "1", "PATH": "/bin"}, read_activation(tmp_path)) == {"A": "1", "PATH": "/bin"}


async def test_a_script_that_ends_its_shell_ends_the_activation_there(tmp_path: Path) -> None:
    activation = await _record(tmp_path, {"1.sh": "export A=1\nset -eu\nfalse\n", "2.sh": "export B=1\n"})
    assert activation.variables["A"] == "1"
    assert "B" not in activation.variables


async def test_a_script_that_does_not_end_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"activation of the conda environment did not end within 0\.3 seconds"):
        await _record(tmp_path, {"1.sh": "exec tail -f /dev/null\n"}, timeout_seconds=0.3)


async def test_a_script_that_leaves_nothing_behind_is_told(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="left no environment behind"):
        await _record(tmp_path, {"1.sh": "exec true\n"})

"""Environments that are put together: what is replaced of a base, and what is left of it."""

import py_compile
from pathlib import Path

import pytest

from services.builder.executors.process.session.assembly import replaced_files, take_out, tell_packages

PACKAGES = Path("lib/python3.11/site-packages")


def add_package(env: Path, name: str, version: str, files: dict[str, str], *, says_also: tuple[str, ...] = ()) -> None:
    """Install a package as uv would; names of files begin at the folder of packages.

    Its record names `says_also` too, which are not written.
    """
    metadata = f"{name}-{version}.dist-info"
    files = files | {f"{metadata}/METADATA": f"Name: {name}\nVersion: {version}\n"}
    record = "".join(f'"{path}",,\n' for path in [*files, *says_also, f"{metadata}/RECORD"])
    for path, text in (files | {f"{metadata}/RECORD": record, f"{metadata}/licence": "free"}).items():
        target = env / PACKAGES / path
        assert target.resolve().is_relative_to(env)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def remove_package(env: Path, name: str, version: str) -> None:
    folder = env / PACKAGES / f"{name}-{version}.dist-info"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "outside").touch()
    base = tmp_path / "base"
    (base / "bin").mkdir(parents=True)
    script = "../../../bin/one"
    files = {"one/__init__.py": "1.0", "one/old.py": "", script: ""}
    add_package(base, "one", "1.0", files, says_also=("/etc/hostname", "../../../../outside"))
    add_package(base, "two", "1.0", {"two.py": "2.0"})
    py_compile.compile(str(base / PACKAGES / "one" / "old.py"))
    py_compile.compile(str(base / PACKAGES / "one" / "__init__.py"))
    py_compile.compile(str(base / PACKAGES / "two.py"))
    return base


@pytest.fixture
def env(tmp_path: Path) -> Path:
    env = tmp_path / "env"
    (env / PACKAGES).mkdir(parents=True)
    return env


def test_an_environment_is_told_of_the_bases_packages(base: Path, env: Path) -> None:
    tell_packages(base, env)
    told = {str(path.relative_to(env / PACKAGES)) for path in env.rglob("*") if path.is_file()}
    assert told == {f"{name}-1.0.dist-info/{file}" for name in ("one", "two") for file in ("METADATA", "RECORD")}
    metadata = Path(PACKAGES, "one-1.0.dist-info", "METADATA")
    assert (env / metadata).samefile(base / metadata)
    assert replaced_files(base, env) == []


def test_all_that_a_replaced_package_had_is_taken_out_but_for_what_the_new_one_has(base: Path, env: Path) -> None:
    tell_packages(base, env)
    remove_package(env, "one", "1.0")
    add_package(env, "one", "2.0", {"one/__init__.py": "2.0"})
    replaced = {str(path) for path in replaced_files(base, env)}
    compiled = {str(path.relative_to(base)) for path in (base / PACKAGES / "one" / "__pycache__").iterdir()}
    assert len(compiled) == 2
    assert replaced == compiled | {
        "bin/one",
        f"{PACKAGES}/one/old.py",
        f"{PACKAGES}/one-1.0.dist-info/METADATA",
        f"{PACKAGES}/one-1.0.dist-info/RECORD",
        f"{PACKAGES}/one-1.0.dist-info/licence",
    }
    take_out(base, [Path(path) for path in replaced])
    assert {str(path.relative_to(base / PACKAGES)) for path in (base / PACKAGES).rglob("*") if path.is_file()} == {
        "one/__init__.py",
        "two.py",
        *(str(path.relative_to(base / PACKAGES)) for path in (base / PACKAGES / "__pycache__").iterdir()),
        *(f"two-1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "licence")),
    }


def test_a_package_of_the_same_version_from_elsewhere_is_another_one(base: Path, env: Path) -> None:
    tell_packages(base, env)
    remove_package(env, "two", "1.0")
    add_package(env, "two", "1.0", {"two/__init__.py": "mine"})
    assert PACKAGES / "two.py" in replaced_files(base, env)

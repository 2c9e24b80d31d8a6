"""Pipfile and Pipfile.lock, as `pipenv install --dev` of repo2docker installs them."""

import json
from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from services.common.net.registries import PYPI
from tests.support.checkouts import PACKAGE, WHEEL, Files, only_install, plan_of, shown

BEST_MATCH = "--index-strategy=unsafe-best-match"


@pytest.mark.parametrize(
    ("packages", "lines"),
    [
        ('six = "*"', ["six"]),
        ('six = "==1.16"', ["six==1.16"]),
        ('six = ">=1,<2"', ["six<2,>=1"]),
        ('six = "~=1.16"', ["six~=1.16"]),
        ('six = "1.16"', ["six==1.16"]),
        ('six = ""', ["six"]),
        ('six = {version = "*"}', ["six"]),
        ("six = {}", ["six"]),
        ('pandas = {version = "<3", extras = ["excel", "aws"]}', ["pandas[aws,excel]<3"]),
        ('six = {version = "*", markers = "sys_platform == \'x\'"}', ['six ; sys_platform == "x"']),
        (
            "six = {markers = \"os_name == 'a' or os_name == 'b'\", python_version = \"< '4'\"}",
            ['six ; (os_name == "a" or os_name == "b") and python_version < "4"'],
        ),
        ('six = {version = "*", index = "lab"}', ["six"]),
        ('here = {path = ".", editable = true}', ["-e REPO"]),
        ('here = {path = ".", editable = true, extras = ["test"]}', ["-e REPO[test]"]),
        ('here = {path = "."}', ["REPO"]),
        ('sub = {path = "sub"}', ["REPO/sub"]),
        ('sub = {path = "./sub", extras = ["x"]}', ["REPO/sub[x]"]),
        (f'tiny = {{file = "wheels/{WHEEL}"}}', [f"REPO/wheels/{WHEEL}"]),
        ('a = {file = "https://h.org/a.zip"}', ["https://h.org/a.zip"]),
        ('a = {file = "https://h.org/a.zip", extras = ["x"]}', ["a[x] @ https://h.org/a.zip"]),
        ('a = {git = "https://h.org/a.git"}', ["a @ git+https://h.org/a.git"]),
        (
            'a = {git = "https://h.org/a.git", ref = "v1", subdirectory = "b/c", editable = true, extras = ["x"]}',
            ["a[x] @ git+https://h.org/a.git@v1#subdirectory=b/c"],
        ),
        ('a = {git = "git+ssh://git@h.org/a"}', ["a @ git+ssh://git@h.org/a"]),
    ],
)
def test_a_package_of_a_pipfile_is_a_line_for_the_installer(tmp_path: Path, packages: str, lines: list[str]) -> None:
    files: Files = {"Pipfile": f"[packages]\n{packages}\n", "sub/setup.py": "", f"wheels/{WHEEL}": "", **PACKAGE}
    install = only_install(tmp_path, files)
    assert shown(install, tmp_path) == lines
    assert install.source == "Pipfile"
    assert install.arguments == ()


def test_packages_and_dev_packages_are_installed_and_other_sections_are_not(tmp_path: Path) -> None:
    text = '[docs]\nsphinx = "*"\n[dev-packages]\npytest = "*"\n[scripts]\nx = "y"\n[packages]\nsix = "*"\n'
    assert only_install(tmp_path, {"Pipfile": text}).requirements == ("six", "pytest")


def test_paths_begin_in_the_folder_of_the_file(tmp_path: Path) -> None:
    files: Files = {"binder/Pipfile": '[packages]\nhere = {path = "..", editable = true}\n', **PACKAGE}
    assert shown(only_install(tmp_path, files), tmp_path) == ["-e REPO"]


def _lock(**content: object) -> str:
    return json.dumps({"_meta": {"requires": {}, "sources": []}, "default": {}, "develop": {}} | content)


def test_the_lock_wins_and_is_installed_as_it_is(tmp_path: Path) -> None:
    lock = _lock(
        default={
            "six": {"version": "==1.16.0", "hashes": ["sha256:aa", "sha256:bb"], "markers": "python_version >= '3'"},
            "a": {"git": "https://h.org/a.git", "ref": "abc"},
            "here": {"path": ".", "editable": True},
        },
        develop={"pytest": {"version": "==9.0", "extras": ["x"], "index": "pypi"}},
    )
    install = only_install(tmp_path, {"Pipfile": '[packages]\nnumpy = "*"\n', "Pipfile.lock": lock, **PACKAGE})
    assert install.source == "Pipfile.lock"
    assert install.arguments == ("--no-deps",)
    assert shown(install, tmp_path) == [
        'six==1.16.0 ; python_version >= "3" --hash=sha256:aa --hash=sha256:bb',
        "a @ git+https://h.org/a.git@abc",
        "-e REPO",
        "pytest[x]==9.0",
    ]


def _source(url: str, **more: object) -> dict[str, object]:
    return {"name": "a", "url": url, "verify_ssl": True, **more}


@pytest.mark.parametrize(
    ("sources", "lines", "arguments", "replaces_indexes"),
    [
        ([], [], [], False),
        ([_source(f"https://{PYPI}/simple")], [], [], False),
        ([_source("https://a.org/simple")], ["--index-url https://a.org/simple"], [], True),
        (
            [_source(f"https://{PYPI}/simple"), _source("https://a.org")],
            ["--extra-index-url https://a.org"],
            [BEST_MATCH],
            False,
        ),
        (
            [_source("https://$USER_NAME:${WORD}@a.org:8443/x", verify_ssl=False)],
            ["--index-url https://me:secret@a.org:8443/x"],
            ["--allow-insecure-host=a.org:8443"],
            True,
        ),
    ],
)
@pytest.mark.parametrize("is_locked", [True, False])
def test_the_sources_are_those_of_the_file_that_counts(
    tmp_path: Path,
    sources: list[dict[str, object]],
    lines: list[str],
    arguments: list[str],
    replaces_indexes: bool,
    is_locked: bool,
) -> None:
    tables = "".join(
        f"[[source]]\nurl = {json.dumps(source['url'])}\nverify_ssl = {json.dumps(source['verify_ssl'])}\n"
        for source in sources
    )
    files: Files = {"Pipfile": f'{tables}[packages]\nsix = "*"\n'}
    if is_locked:
        files = {
            "Pipfile": '[[source]]\nurl = "https://old.org"\n',
            "Pipfile.lock": _lock(_meta={"sources": sources}, default={"six": {}}),
        }
    install = only_install(tmp_path, files, USER_NAME="me", WORD="secret")
    assert install.requirements == (*lines, "six")
    assert install.arguments == (*(["--no-deps"] if is_locked else []), *arguments)
    assert install.replaces_indexes is replaces_indexes


def test_prereleases_are_taken_if_the_pipfile_says_so(tmp_path: Path) -> None:
    text = '[pipenv]\nallow_prereleases = true\n[packages]\nsix = "*"\n'
    assert only_install(tmp_path, {"Pipfile": text}).arguments == ("--prerelease=allow",)


@pytest.mark.parametrize(
    ("files", "python"),
    [
        ({"Pipfile": ""}, None),
        ({"Pipfile": '[requires]\npython_version = "3.12"\n'}, "3.12"),
        ({"Pipfile": '[requires]\npython_full_version = "3.11.4"\npython_version = "3.12"\n'}, "3.11"),
        ({"Pipfile": '[requires]\npython_version = "3"\n'}, None),
        ({"Pipfile": '[requires]\npython_version = "*"\n'}, None),
        ({"Pipfile.lock": _lock(_meta={"requires": {"python_version": "3.10"}})}, "3.10"),
        (
            {
                "Pipfile.lock": _lock(_meta={"requires": {"python_version": "3.10"}}),
                "Pipfile": '[requires]\npython_version = "3.12"\n',
            },
            "3.10",
        ),
        ({"Pipfile.lock": _lock(), "Pipfile": '[requires]\npython_version = "3.12"\n'}, "3.12"),
        ({"Pipfile": "", "runtime.txt": "python-3.9"}, None),
    ],
)
def test_the_python_is_that_of_lock_or_pipfile(tmp_path: Path, files: Files, python: str | None) -> None:
    assert plan_of(tmp_path, files).python == python


def test_an_old_kernel_names_the_executors_that_have_it(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^Pipfile: .*a kernel of Python 2.7.*kubernetes and docker") as error:
        plan_of(tmp_path, {"Pipfile": '[requires]\npython_version = "2.7"\n'})
    assert error.value.code == "unsupported_repository"


def test_a_pipfile_without_packages_installs_nothing(tmp_path: Path) -> None:
    assert plan_of(tmp_path, {"Pipfile": '[[source]]\nurl = "https://a.org"\n'}).installs == ()


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"Pipfile": "["}, "Pipfile is not valid TOML: "),
        ({"Pipfile.lock": "{"}, "Pipfile.lock is not valid JSON: "),
        ({"Pipfile.lock": "[" * 100_000}, "Pipfile.lock is not valid JSON: "),
        ({"Pipfile.lock": "[]"}, "Pipfile.lock is not a lock of pipenv's: it must have keys like default"),
        ({"Pipfile.lock": "{}", "Pipfile": "["}, "Pipfile is not valid TOML: "),
        ({"Pipfile": "[packages]\nsix = 1\n"}, "Pipfile, six: 1 is neither a version nor a table"),
        ({"Pipfile": '[packages]\nsix = "=1"\n'}, "Pipfile, six: 'six=1' is not a requirement as pip understands it"),
        ({"Pipfile": '[packages]\n"--pre" = "*"\n'}, "Pipfile, --pre: '--pre' is not a requirement as pip"),
        (
            {"Pipfile": '[packages]\nsix = {version = "*", hashes = "x"}\n'},
            "Pipfile, six: hashes must be a list of words",
        ),
        ({"Pipfile": '[packages]\nsix = {hashes = ["md5:a"]}\n'}, "Pipfile: --hash=md5:a must be like sha256:<digits>"),
        ({"Pipfile": "[packages]\nsix = {version = 1}\n"}, "Pipfile, six: version must be text, not 1"),
        ({"Pipfile": '[packages]\nsix = {markers = "no"}\n'}, "Pipfile, six: 'no' is not an environment marker"),
        ({"Pipfile": '[packages]\na = {path = ". --pre"}\n'}, r"Pipfile, a: '\. --pre' has a space, a quote"),
        ({"Pipfile": '[packages]\na = {path = ".\\n-r /etc/passwd"}\n'}, "Pipfile, a: .* has a space, a quote"),
        ({"Pipfile": '[packages]\na = {path = "/usr"}\n'}, "Pipfile: /usr leads out of the repository"),
        (
            {"Pipfile": '[packages]\na = {path = "gone", editable = true}\n'},
            "Pipfile: -e gone: there is no such folder",
        ),
        ({"Pipfile": '[packages]\na = {path = "gone"}\n'}, r"Pipfile: there is no \./gone"),
        ({"Pipfile": '[[source]]\nname = "x"\n'}, "Pipfile: a source must have a url, and this has none: "),
    ],
)
def test_a_fault_is_a_sentence(tmp_path: Path, files: Files, complaint: str) -> None:
    with pytest.raises(StepError, match=f"^{complaint}") as error:
        plan_of(tmp_path, files)
    assert error.value.code == "build_failed"
    assert "\n" not in error.value.message


def test_a_package_of_mercurial_names_the_executors_that_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^Pipfile: .*a package that is fetched by hg\+https.*kubernetes and docker"):
        plan_of(tmp_path, {"Pipfile": '[packages]\na = {hg = "https://h.org/a"}\n'})

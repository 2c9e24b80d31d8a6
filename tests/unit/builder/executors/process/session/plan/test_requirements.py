"""requirements.txt becomes lines and arguments of uv that mean what pip makes of the file."""

from pathlib import Path

import pytest

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.plan.build_plan import CONSTRAINTS_FILE, REQUIREMENTS_FILE
from services.builder.executors.process.session.plan.reading import read
from services.common.net.registries import PYPI, PYPI_OF_OLD
from tests.support.checkouts import PACKAGE, WHEEL, Files, make_checkout, only_install, plan_of, shown

BEST_MATCH = "--index-strategy=unsafe-best-match"


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"requirements.txt": "six\nnumpy >= 2 , < 3 # fast\n"}, ["six", "numpy<3,>=2"]),
        ({"requirements.txt": "six".encode("utf-16")}, ["six"]),
        ({"requirements.txt": b"\xef\xbb\xbfsix\r\n# gr\xc3\xb6\xc3\x9fe\r\n"}, ["six"]),
        ({"requirements.txt": "# größe\nsix\n".encode("latin-1")}, ["six"]),
        ({"requirements.txt": "pandas [all] ;python_version<'4'"}, ['pandas[all] ; python_version < "4"']),
        ({"requirements.txt": "a==1 \\\n  ; sys_platform == 'x'"}, ['a==1 ; sys_platform == "x"']),
        ({"requirements.txt": "-e .\n", **PACKAGE}, ["-e REPO"]),
        ({"requirements.txt": "--editable=.[test,docs]\n", **PACKAGE}, ["-e REPO[test,docs]"]),
        ({"requirements.txt": "-e file:sub/\n", "sub/setup.py": ""}, ["-e REPO/sub"]),
        ({"requirements.txt": "./sub\nsub/\n", "sub/setup.py": ""}, ["REPO/sub"]),
        ({"requirements.txt": ". ; python_version > '3'\n", **PACKAGE}, ['REPO ; python_version > "3"']),
        ({"requirements.txt": "file:./my%20pack\n", "my pack/pyproject.toml": ""}, ["REPO/my%20pack"]),
        ({"requirements.txt": f"./wheels/{WHEEL}[x]\n", f"wheels/{WHEEL}": ""}, [f"REPO/wheels/{WHEEL}[x]"]),
        ({"requirements.txt": f"{WHEEL}\n", WHEEL: ""}, [f"REPO/{WHEEL}"]),
        ({"requirements.txt": "a @ file:a.zip\n", "a.zip": ""}, ["a @ REPO/a.zip"]),
        ({"requirements.txt": "https://h.org/a.zip#egg=a[b]&sha256=c\n"}, ["a[b] @ https://h.org/a.zip#sha256=c"]),
        (
            {"requirements.txt": "https://h.org/a.zip ; python_version>'3'\n"},
            ['https://h.org/a.zip ; python_version > "3"'],
        ),
        ({"requirements.txt": "git+https://h.org/r@v1\n"}, ["git+https://h.org/r@v1"]),
        ({"requirements.txt": "-e git+https://h.org/r.git@abc#egg=r\n"}, ["r @ git+https://h.org/r.git@abc"]),
        (
            {"requirements.txt": "-e git+ssh://git@h.org/r#egg=r[x]&subdirectory=a/b\n"},
            ["r[x] @ git+ssh://git@h.org/r#subdirectory=a/b"],
        ),
        ({"requirements.txt": "r[x]@git+https://h.org/r\n"}, ["r[x] @ git+https://h.org/r"]),
        ({"requirements.txt": "-e r@git+https://h.org/r\n"}, ["r @ git+https://h.org/r"]),
        ({"requirements.txt": "${WHERE}/sub\n", "sub/setup.py": ""}, ["REPO/sub"]),
        ({"requirements.txt": "-e ${NO_NAME}sub\n", "${NO_NAME}sub/setup.py": ""}, ["-e REPO/%24%7BNO_NAME%7Dsub"]),
        (
            {"requirements.txt": "-r a/more.txt\nlast", "a/more.txt": "-r b.txt\nsix\n", "a/b.txt": "first"},
            ["first", "six", "last"],
        ),
        ({"requirements.txt": "-r requirements.txt\nsix\n"}, ["six"]),
        ({"requirements.txt": "-r file:more.txt\n", "more.txt": "six"}, ["six"]),
        (
            {"binder/requirements.txt": "-e .\n-r m.txt\n", "binder/m.txt": "./sub", "sub/setup.py": "", **PACKAGE},
            ["-e REPO", "REPO/sub"],
        ),
        ({"requirements.txt": "--use-feature=fast-deps\nsix\n"}, ["six"]),
    ],
)  # fmt: skip
def test_requirements_are_those_that_pip_reads(tmp_path: Path, files: Files, lines: list[str]) -> None:
    install = plan_of(tmp_path, files, WHERE=".").installs[0]
    assert shown(install, tmp_path) == lines
    assert install.arguments == ()


@pytest.mark.parametrize(
    ("text", "lines", "arguments", "replaces_indexes"),
    [
        ("-i https://a.org/simple", ["--index-url https://a.org/simple"], [], True),
        ("-i https://a.org/simple\n-i https://b.org/simple", ["--index-url https://b.org/simple"], [], True),
        ("--extra-index-url https://a.org", ["--extra-index-url https://a.org"], [BEST_MATCH], False),
        (
            "-i https://a.org\n--extra-index-url https://b.org",
            ["--index-url https://a.org", "--extra-index-url https://b.org"],
            [BEST_MATCH],
            True,
        ),
        ("--extra-index-url https://b.org\n-i https://a.org", ["--index-url https://a.org"], [], True),
        (f"-i https://{PYPI}/simple", [], [], False),
        (f"-i https://{PYPI_OF_OLD}/simple/", [], [], False),
        (
            f"-i https://a.org\n--extra-index-url https://{PYPI}/simple",
            ["--extra-index-url https://a.org"],
            [BEST_MATCH],
            False,
        ),
        (f"-i https://me:secret@{PYPI}/simple", [f"--index-url https://me:secret@{PYPI}/simple"], [], True),
        ("-i https://${USER_NAME}:${WORD}@a.org", ["--index-url https://me:secret@a.org"], [], True),
        ("--no-index", ["--no-index"], [], True),
        ("--extra-index-url https://b.org\n--no-index\n-i https://a.org", ["--no-index"], [], True),
        ("--no-index\n-f ./wheels", ["--no-index", "--find-links REPO/wheels"], [], True),
        ("--find-links=https://a.org/list.html", ["--find-links https://a.org/list.html"], [], False),
        ("-f ./wheels -f ./sub", ["--find-links REPO/wheels"], [], False),
        ("-r sub/more.txt", ["--find-links REPO/sub/wheels"], [], False),
        ("--no-binary :all:", ["--no-binary :all:"], [], False),
        (
            "--no-binary :all:\n--only-binary Num_Py,six",
            ["--no-binary :all:", "--only-binary num-py", "--only-binary six"],
            [],
            False,
        ),
        ("--no-binary a,b\n--only-binary a", ["--no-binary b", "--only-binary a"], [], False),
        ("--no-binary a\n--no-binary :none:", [], [], False),
        ("--no-binary a\n--only-binary :all:", ["--only-binary :all:"], [], False),
        ("--only-binary a --no-binary :all:,b,:none:,c", ["--no-binary c"], [], False),
        ("other --only-binary other", ["--only-binary other", "other"], [], False),
        ("other --pre -i https://a.org", ["other"], [], False),
        ("--pre", [], ["--prerelease=allow"], False),
        ("--require-hashes", [], ["--require-hashes", "--no-deps"], False),
        ("--trusted-host a.org:8080", [], ["--allow-insecure-host=a.org:8080"], False),
        ("other --hash=sha256:0aF", ["other --hash=sha256:0aF"], ["--require-hashes", "--no-deps"], False),
        (
            "other -C a=b -C c=d",
            ["other"],
            ["--config-settings-package=other:a=b", "--config-settings-package=other:c=d"],
            False,
        ),
        ("./sub -C a=b", ["REPO/sub"], ["--config-setting=a=b"], False),
        ("-r https://a.org/more.txt", [], ["--requirements=https://a.org/more.txt"], False),
        ("-c https://a.org/more.txt", [], ["--constraints=https://a.org/more.txt"], False),
    ],
)  # fmt: skip
def test_options_hold_for_the_lines_of_the_file(
    tmp_path: Path, text: str, lines: list[str], arguments: list[str], replaces_indexes: bool
) -> None:
    files: Files = {
        "requirements.txt": f"{text}\nsix\n",
        "sub/more.txt": "--find-links wheels",
        "wheels/": "",
        "sub/wheels/": "",
        "sub/pyproject.toml": "",
    }
    install = only_install(tmp_path, files, USER_NAME="me", WORD="secret")
    assert shown(install, tmp_path) == [*lines, "six"]
    assert install.arguments == tuple(arguments)
    assert install.replaces_indexes is replaces_indexes


@pytest.mark.parametrize(
    ("text", "constraints"),
    [
        ("-c limits.txt\nsix", ("six<2", "numpy<3")),
        ("-c limits.txt\n--constraint limits.txt\nsix", ("six<2", "numpy<3")),
        ("-r with-limits.txt\nsix", ("six<2", "numpy<3")),
    ],
)
def test_constraints_are_a_file_of_their_own(tmp_path: Path, text: str, constraints: tuple[str, ...]) -> None:
    files: Files = {
        "requirements.txt": text,
        "limits.txt": "six<2\n-c more.txt",
        "more.txt": "numpy<3\n--pre\n",
        "with-limits.txt": "-c limits.txt",
    }
    install = only_install(tmp_path, files)
    assert install.constraints == constraints
    assert install.requirements == ("six",)
    assert install.arguments == ("--prerelease=allow",)


@pytest.mark.parametrize("text", ["", "# nothing\n", "--no-binary :all:\n", "-i https://a.org\n", "-c limits.txt\n"])
def test_a_file_that_asks_for_no_package_installs_nothing(tmp_path: Path, text: str) -> None:
    assert plan_of(tmp_path, {"requirements.txt": text, "limits.txt": "six<2"}).installs == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("six\n--nothing-like-it", "line 2: no such option: --nothing-like-it"),
        ("-r missing.txt", "line 1: there is no file missing.txt"),
        ("-c missing.txt", "line 1: there is no file missing.txt"),
        ("-r ../other.txt", "line 1: ../other.txt leads out of the repository"),
        ("-r /etc/passwd", "line 1: /etc/passwd leads out of the repository"),
        ("-r file:///etc/passwd", "line 1: /etc/passwd leads out of the repository"),
        ("-e ..", "line 1: .. leads out of the repository"),
        ("/usr", "line 1: /usr leads out of the repository"),
        ("-f /usr", "line 1: /usr leads out of the repository"),
        ("./gone", "line 1: there is no ./gone"),
        ("gone.whl", "line 1: there is no file gone.whl"),
        ("-e gone", "line 1: -e gone: there is no such folder, and it is not the URL of a git repository"),
        ("-e https://h.org/a.zip", "line 1: -e https://h.org/a.zip: there is no such folder"),
        ("./empty", "line 1: the folder ./empty has neither a pyproject.toml nor a setup.py"),
        ("-e empty", "line 1: the folder empty has neither a pyproject.toml nor a setup.py"),
        ("six = 1", "line 1: 'six = 1' is not a requirement as pip understands it"),
        ("six; python_is < 3", "line 1: 'python_is < 3' is not an environment marker"),
        ("six --hash=md5:aa", "line 1: --hash=md5:aa must be like sha256:<digits>"),
        ("-i simple", "line 1: simple is neither a URL nor a folder of the repository"),
        ("--no-binary '--x'", "line 1: --no-binary and --only-binary need names"),
        ("--no-binary 'a b'", "line 1: 'a b' is not the name of a package"),
        ("--trusted-host '--x'", "line 1: '--x' is not a host"),
        ("six -C ab", "line 1: 'ab' is not like KEY=VALUE"),
        ("-c limits.txt", "limits.txt, line 1: -e can't stand among constraints"),
        ("./" + "x" * 5000, "line 1: there is no ./xxx"),
        ("-r " + "x" * 5000, "line 1: there is no file xxx"),
        ("\ufeff./a\0b", "line 1: there is no ./a"),
        ("-i https://[::1/simple", r"line 1: 'https://\[::1/simple' is not a URL"),
    ],
)
def test_a_line_that_pip_would_refuse_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    files: Files = {"requirements.txt": text, "empty/": "", "limits.txt": "-e ."}
    with pytest.raises(StepError, match=complaint) as error:
        plan_of(tmp_path, files)
    assert error.value.code == "build_failed"
    assert "\n" not in error.value.message
    assert len(error.value.message) < 400


@pytest.mark.parametrize("line", ["-e hg+https://h.org/r#egg=r", "svn+ssh://h.org/r#egg=r", "-e git://h.org/r#egg=r"])
def test_a_package_of_another_system_names_the_executors_that_fetch_it(tmp_path: Path, line: str) -> None:
    complaint = r"^requirements.txt, line 1: the process executor can't build a package that is fetched by \w+\+"
    with pytest.raises(StepError, match=rf"{complaint}.*The kubernetes and docker executors can") as error:
        plan_of(tmp_path, {"requirements.txt": line})
    assert error.value.code == "unsupported_repository"


def test_a_folder_that_a_link_takes_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    outside = make_checkout(tmp_path / "outside", PACKAGE)
    repo = make_checkout(tmp_path / "repo", {"requirements.txt": "-e ./inside"})
    (repo / "inside").symlink_to(outside)
    with pytest.raises(StepError, match=r"^requirements.txt, line 1: ./inside leads out of the repository$"):
        read(repo)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("--prefer-binary\nsix", "--prefer-binary is passed over: uv takes the newest version, built or not"),
        ("--find-links ./gone\nsix", "--find-links ./gone is passed over: there is no such folder"),
        ("six --global-option=x", "--global-option of 'six' is passed over: uv has none"),
    ],
)
def test_what_uv_does_not_know_is_told(tmp_path: Path, text: str, note: str) -> None:
    plan = plan_of(tmp_path, {"requirements.txt": text})
    assert plan.notes == (note,)
    assert [install.requirements for install in plan.installs] == [("six",)]


def test_includes_that_double_each_time_come_to_an_end(tmp_path: Path) -> None:
    files: Files = {f"{number}.txt": f"-r {number + 1}.txt\n-r {number + 1}.txt\n" for number in range(60)}
    with pytest.raises(StepError, match=r"^[0-9]+.txt is the 101th file that is included: put some of them together$"):
        plan_of(tmp_path, files | {"requirements.txt": "-r 0.txt", "60.txt": "six"})


def test_the_files_of_an_installation_lie_where_they_are_wanted(tmp_path: Path) -> None:
    files: Files = {"requirements.txt": "six\n-c limits.txt\n--pre\n", "limits.txt": "six<2"}
    install = only_install(tmp_path / "repo", files)
    folder = tmp_path / "inputs" / "1"
    arguments = install.write(folder)
    assert arguments == [
        "--no-sources",
        "--prerelease=allow",
        "--requirements",
        str(folder / REQUIREMENTS_FILE),
        "--constraints",
        str(folder / CONSTRAINTS_FILE),
    ]
    assert (folder / REQUIREMENTS_FILE).read_text() == "six\n"
    assert (folder / CONSTRAINTS_FILE).read_text() == "six<2\n"


def test_no_name_of_a_repositorys_own_files_reaches_the_installer(tmp_path: Path) -> None:
    """What is installed is named by us: whatever else lies there, its name is no argument."""
    names = ["--index-url=x", "-e", "binder/-r", "binder/--requirement=x", "requirements.txt ", "postBuild;x"]
    files: Files = {"binder/requirements.txt": "six", "binder/pyproject.toml": "[project]\ndependencies = ['--pre']\n"}
    install = only_install(tmp_path / "repo", files | dict.fromkeys(names, "x"))
    assert install.requirements == ("six",)
    assert install.arguments == ()

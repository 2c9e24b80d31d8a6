"""Small repositories, one for each thing that an author can say to the process executor, with what must come of it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.bare_repos import Content, Link

_PYTHON = f"3.{sys.version_info.minor}"
"""A Python that there is without a download."""
_PROJECT = '[project]\nname = "a-project"\nversion = "1"\n'
_SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
_SETUP = 'from setuptools import setup\n\nsetup(name="a-package", version="1", py_modules=["answers"])\n'
_NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "cells": [],
}


@dataclass(frozen=True, kw_only=True)
class SampleRepository:
    """Files, and how a launch of them ends: with a server, or with an error of its author."""

    name: str
    files: Mapping[str, Content]
    cell: str = "import os; print(sorted(os.listdir('.')))"
    """What a kernel of the server runs."""
    words: tuple[str, ...] = field(default=("README.md",))
    """What that prints, or what the error says."""
    code: str = ""
    """Code of the error; empty if the launch is ready."""


_READY = [
    SampleRepository(name="nothing-to-build", files={"README.md": "A demo."}),
    SampleRepository(
        name="requirements",
        files={"requirements.txt": "cowsay==6.1\n"},
        cell="import cowsay; print(cowsay.get_output_string('cow', 'Bindery'))",
        words=("(oo)", "Bindery"),
    ),
    SampleRepository(
        name="requirements-and-setup",
        files={"requirements.txt": "six\n", "setup.py": _SETUP, "answers.py": "answer = 42\n"},
        cell="import importlib.metadata, six; print(importlib.metadata.version('a-package'), six.__name__)",
        words=("1 six",),
    ),
    SampleRepository(
        name="project-that-is-built",
        files={
            "pyproject.toml": f'{_SETUPTOOLS}{_PROJECT}dependencies = ["six"]\n',
            "one.py": "answer = 42\n",  # which setuptools takes, as there is no other module
        },
        cell="import importlib.metadata, six; print(importlib.metadata.version('a-project'), six.__name__)",
        words=("1 six",),
    ),
    SampleRepository(
        name="project-of-dependencies",
        files={
            "pyproject.toml": f'{_PROJECT}requires-python = ">={_PYTHON}"\ndependencies = ["no-such-package==0"]\n',
            "README.md": "Without a build system none of them is installed.",
        },
    ),
    SampleRepository(
        name="project-of-poetry",
        files={
            "pyproject.toml": '[tool.poetry]\nname = "a"\n[build-system]\nrequires = ["no-such-package==0"]\n',
            "requirements.txt": "six\n",
        },
        cell="import six; print(six.__name__)",
        words=("six",),
    ),
    SampleRepository(
        name="pipfile",
        files={
            "Pipfile": '[packages]\ncowsay = "==6.1"\n[dev-packages]\nsix = "*"\n',
            "requirements.txt": "no-such-package==0\n",
        },
        cell="import cowsay, six; print(six.__name__)",
        words=("six",),
    ),
    SampleRepository(
        name="pipfile-lock",
        files={
            "Pipfile.lock": json.dumps({"_meta": {}, "default": {}, "develop": {"six": {"version": "==1.17.0"}}}),
            "Pipfile": '[packages]\nno-such-package = "==0"\n',
        },
        cell="import six; print(six.__version__)",
        words=("1.17.0",),
    ),
    SampleRepository(
        name="files-that-are-passed-over",
        files={"install.R": "no", "apt.txt": "# nothing\n", "README.md": "Neither asks for anything here."},
    ),
    SampleRepository(
        name="project-of-tools",
        files={"pyproject.toml": "[tool.ruff]\nline-length = 100\n", "README.md": "Tools."},
    ),
    *(
        SampleRepository(
            name=name,
            files={f"{folder}/requirements.txt": "six\n", "requirements.txt": "no-such-package==0\n", "setup.py": "no"},
            cell="import six; print(six.__name__)",
            words=("six",),
        )
        for name, folder in (("binder-folder", "binder"), ("hidden-binder-folder", ".binder"))
    ),
    SampleRepository(
        name="runtime",
        files={"runtime.txt": f"python-{_PYTHON}\n"},
        cell="import sys; print(sys.version)",
        words=(f"{_PYTHON}.",),
    ),
    SampleRepository(
        name="post-build",
        files={"postBuild": "#!/bin/sh\npython -c 'import sys; print(sys.prefix)' > where\n"},
        cell="import sys; print(open('where').read().strip() == sys.prefix)",
        words=("True",),
    ),
    SampleRepository(
        name="post-build-without-a-first-line",
        files={"postBuild": "echo it was run > proof\n"},
        cell="print(open('proof').read())",
        words=("it was run",),
    ),
    SampleRepository(
        name="post-build-by-a-link",
        files={"scripts/post": "#!/bin/sh\necho it was run > proof\n", "postBuild": Link("scripts/post")},
        cell="print(open('proof').read())",
        words=("it was run",),
    ),
    SampleRepository(
        name="start",
        files={"start": '#!/bin/sh\nexport SAID_BY_START=yes\nexec "$@"\n'},
        cell="import os; print(os.environ['SAID_BY_START'])",
        words=("yes",),
    ),
    SampleRepository(
        name="names-of-files",
        files={"a folder/Übung.txt": "with a space and an umlaut", "index.ipynb": json.dumps(_NOTEBOOK)},
        cell="print(open('a folder/Übung.txt').read())",
        words=("with a space and an umlaut",),
    ),
]

_OF_OTHER_EXECUTORS = [
    *("Dockerfile", "environment.yml", "environment.yaml", "apt.txt", "Project.toml", "JuliaProject.toml"),
    *("default.nix", "DESCRIPTION", "binder/Dockerfile"),
]

_FAILED = [
    *(
        SampleRepository(
            name=f"other-{file.lower().replace('/', '-').replace('.', '-')}",
            files={file: "x"},
            code="unsupported_repository",
            words=(f"{file}: the process executor can't build", "The kubernetes and docker executors can"),
        )
        for file in _OF_OTHER_EXECUTORS
    ),
    SampleRepository(
        name="packages-of-an-old-julia",
        files={"REQUIRE": "julia 0.6"},
        code="unsupported_repository",
        words=("REQUIRE: no executor builds it any more",),
    ),
    SampleRepository(
        name="runtime-of-r",
        files={"runtime.txt": "r-4.1-2023-01-01"},
        code="unsupported_repository",
        words=("runtime.txt: the process executor can't build R packages",),
    ),
    SampleRepository(
        name="runtime-too-old",
        files={"runtime.txt": "python-2.7"},
        code="unsupported_repository",
        words=("runtime.txt: the process executor can't build a kernel of Python 2.7",),
    ),
    SampleRepository(
        name="runtime-that-is-none", files={"runtime.txt": "python"}, code="build_failed", words=("runtime.txt says",)
    ),
    SampleRepository(
        name="requirements-at-odds",
        files={"requirements.txt": "cowsay==6.0\ncowsay==6.1\n"},
        code="build_failed",
        words=("The installation of packages ended with exit status 1",),
    ),
    SampleRepository(
        name="requirement-of-no-package",
        files={"requirements.txt": "six==0.0.99\n"},
        code="build_failed",
        words=("The installation of packages ended with exit status 1",),
    ),
    SampleRepository(
        name="two-binder-folders",
        files={"binder/requirements.txt": "six", ".binder/requirements.txt": "six"},
        code="build_failed",
        words=("only one of them can count",),
    ),
    SampleRepository(
        name="project-not-toml", files={"pyproject.toml": "["}, code="build_failed", words=("is not valid TOML",)
    ),
    SampleRepository(
        name="project-of-an-unreadable-python",
        files={"pyproject.toml": f'{_PROJECT}requires-python = "^3.9"\n'},
        code="build_failed",
        words=("it must be text like",),
    ),
    SampleRepository(
        name="post-build-of-windows",
        files={"postBuild": "#!/bin/sh\r\necho hello\r\n"},
        code="build_failed",
        words=("Windows line endings",),
    ),
    SampleRepository(
        name="link-that-leads-out",
        files={"requirements.txt": Link("/etc/passwd")},
        code="build_failed",
        words=("requirements.txt is a link that leads out of the repository",),
    ),
    SampleRepository(
        name="post-build-that-fails",
        files={"postBuild": "#!/bin/sh\necho what went wrong >&2\nexit 7\n"},
        code="build_failed",
        words=("postBuild ended with exit status 7",),
    ),
    SampleRepository(
        name="start-that-ends",
        files={"start": "#!/bin/sh\necho this is why\nexit 1\n"},
        code="server_start_failed",
        words=("ended with exit status 1", "this is why"),
    ),
]

SAMPLE_REPOSITORIES = [*_READY, *_FAILED]

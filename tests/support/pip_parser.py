"""pip's own reading of requirements files, in a process of its own: the oracle for ours."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_PROGRAM = """
import json, logging, os, sys
from types import SimpleNamespace
from pip._internal.models.format_control import FormatControl
from pip._internal.models.search_scope import SearchScope
from pip._internal.req.req_file import parse_requirements

logging.disable(logging.CRITICAL)


class Finder:
    def __init__(self):
        self.search_scope = SearchScope(find_links=[], index_urls=["OPERATOR"], no_index=False)
        self.format_control = FormatControl(set(), set())
        self.pre = False

    find_links = property(lambda self: self.search_scope.find_links)
    index_urls = property(lambda self: self.search_scope.index_urls)

    def set_allow_all_prereleases(self):
        self.pre = True

    def set_prefer_binary(self):
        pass


def read(path):
    finder = Finder()
    hosts = []
    session = SimpleNamespace(
        update_index_urls=lambda urls: None, add_trusted_host=lambda host, source: hosts.append(host)
    )
    options = SimpleNamespace(require_hashes=False, features_enabled=[], isolated_mode=False)
    lines = [
        [line.requirement, line.is_editable, line.constraint, sum((line.options or {}).get("hashes", {}).values(), [])]
        for line in parse_requirements(path, session=session, finder=finder, options=options)
    ]
    return {
        "lines": lines,
        "index_urls": finder.index_urls,
        "find_links": finder.find_links,
        "no_index": finder.search_scope.no_index,
        "no_binary": sorted(finder.format_control.no_binary),
        "only_binary": sorted(finder.format_control.only_binary),
        "pre": finder.pre,
        "require_hashes": options.require_hashes,
        "trusted_hosts": hosts,
    }


for question in sys.stdin:
    path, variables = json.loads(question)
    os.chdir(os.path.dirname(path))
    os.environ.update(variables)
    sys.stderr = open(os.devnull, "w")  # optparse prints its usage
    try:
        answer = read(path)
    except (Exception, SystemExit) as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)
"""


class PipParser:
    """pip, asked for one file after another. A context manager: the process ends with it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def read(self, path: Path, variables: dict[str, str]) -> dict[str, object]:
        """Return what pip makes of a file: its lines and the state of its finder, or `refused` with its message."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(path), variables]) + "\n")
        self._process.stdin.flush()
        answer: dict[str, object] = json.loads(self._process.stdout.readline())
        return answer

"""requirements.txt, as pip reads it, and what it includes, as lines and arguments for uv."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.plan.build_plan import PipInstall
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.package_options import PackageOptions
from services.builder.executors.process.session.plan.places import Places, one_word, path_of, scheme_of
from services.builder.executors.process.session.plan.refusals import cut, quoted, unsupported
from services.builder.executors.process.session.plan.requirement_entries import (
    OtherVcsError,
    editable_entry,
    package_entry,
)
from services.builder.executors.process.session.plan.requirement_lines import (
    InvalidLineError,
    Line,
    LineOptions,
    parse_line,
    split_lines,
)

_MAX_FILES = 100
_HASH = re.compile(r"(sha256|sha384|sha512):[0-9A-Fa-f]+")


class RequirementsReader:
    """Reads files of requirements, one after another, into one installation.

    `folder` is where pip would be called: paths of packages begin there. `variables` replace `${NAME}`.
    """

    def __init__(self, checkout: Checkout, *, folder: Path, variables: Mapping[str, str]) -> None:
        self.options = PackageOptions()
        self.notes: list[str] = []
        self._checkout = checkout
        self._places = Places(checkout, folder)
        self._variables = variables
        self._requirements: list[str] = []
        self._constraints: list[str] = []
        self._remote: list[str] = []
        self._open: list[Path] = []
        self._files_read = 0

    def read_file(self, path: Path, *, is_constraint: bool = False) -> None:
        """Read a file of the repository, unless it includes itself. Raise `StepError`, naming the file and the line."""
        if path in self._open:
            return

        file = self._checkout.name(path)
        self._files_read += 1
        if self._files_read > _MAX_FILES:
            raise build_failed(f"{file} is the {_MAX_FILES + 1}th file that is included: put some of them together")
        self._open.append(path)
        self.read_text(self._checkout.text(path), file=file, base=path.parent, is_constraint=is_constraint)
        self._open.pop()

    def read_text(
        self, text: str, *, file: str, base: Path, is_constraint: bool = False, names_lines: bool = True
    ) -> None:
        """Read lines; `file` is what messages call them, and files that they name are looked for in `base`.

        Raise `StepError`, which names the line's number unless `names_lines` is false.
        """
        for number, line in split_lines(text, self._variables):
            place = f"{file}, line {number}" if names_lines else file
            try:
                self._take(parse_line(number, line), base, is_constraint)
            except OtherVcsError as error:
                raise unsupported(place, cut(str(error))) from None
            except InvalidLineError as error:
                raise build_failed(f"{place}: {cut(str(error))}") from None

    def install(self, source: str, *arguments: str) -> PipInstall | None:
        """Return the installation of all that was read, with further arguments; None if no package is asked for."""
        if not self._requirements and not any(option.startswith("--requirements") for option in self._remote):
            return None
        return PipInstall(
            source=source,
            requirements=(*self.options.lines(), *dict.fromkeys(self._requirements)),
            constraints=tuple(dict.fromkeys(self._constraints)),
            arguments=(*arguments, *self.options.arguments(), *self._remote),
            replaces_indexes=self.options.replaces_indexes,
        )

    def _take(self, line: Line, base: Path, is_constraint: bool) -> None:
        options = line.options
        self.options.apply_formats(options)
        if line.requirement:
            (self._constraints if is_constraint else self._requirements).append(self._entry(line))
        elif options.editables:
            if is_constraint:
                raise InvalidLineError("-e can't stand among constraints")
            self._requirements.append(editable_entry(options.editables[0], self._places).text)
        elif options.requirements:
            self._include(options.requirements[0], base, is_constraint=False)
        elif options.constraints:
            self._include(options.constraints[0], base, is_constraint=True)
        else:
            self._apply(options, base)

    def _entry(self, line: Line) -> str:
        entry = package_entry(line.requirement, self._places)
        options = line.options
        for setting in options.config_settings:
            self.options.add_build_setting(setting, entry.name)
        if options.global_options:
            self.notes.append(f"--global-option of {quoted(line.requirement)} is passed over: uv has none")

        for digest in options.hashes:
            if not _HASH.fullmatch(digest):
                raise InvalidLineError(f"--hash={digest} must be like sha256:<digits>")
        self.options.requires_hashes |= bool(options.hashes)  # pip asks for all of them if there is one
        return " ".join([entry.text, *(f"--hash={digest}" for digest in options.hashes)])

    def _include(self, target: str, base: Path, *, is_constraint: bool) -> None:
        if target.lower().startswith(("http://", "https://")):
            option = "--constraints" if is_constraint else "--requirements"
            self._remote.append(f"{option}={one_word(target)}")
            return

        path = self._places.path(path_of(target) if scheme_of(target) == "file" else target, base=base)
        if not self._places.has_file(str(path)):
            raise InvalidLineError(f"there is no file {target}")
        self.read_file(path, is_constraint=is_constraint)

    def _apply(self, options: LineOptions, base: Path) -> None:
        self.options.apply(
            replace(
                options,
                index_url=self._index(options.index_url) if options.index_url else None,
                extra_index_urls=tuple(self._index(url) for url in options.extra_index_urls),
            )
        )

        for place in options.find_links[:1]:  # pip takes the first of a line
            if url := self._places.location(place, base=base):
                self.options.add_links(url)
            else:
                self.notes.append(f"--find-links {place} is passed over: there is no such folder")
        if options.prefer_binary:
            self.notes.append("--prefer-binary is passed over: uv takes the newest version, built or not")

    def _index(self, text: str) -> str:
        if url := self._places.location(text):
            return url
        raise InvalidLineError(f"{text} is neither a URL nor a folder of the repository")


def read_requirements(checkout: Checkout, variables: Mapping[str, str]) -> tuple[PipInstall | None, list[str]]:
    """Read requirements.txt; return its installation, None if it asks for nothing, and notes. Raise `StepError`.

    pip is called at the top of a repository, wherever the file lies.
    """
    path = checkout.find("requirements.txt")
    if path is None:
        return None, []

    reader = RequirementsReader(checkout, folder=checkout.repo, variables=variables)
    reader.read_file(path)
    return reader.install(checkout.name(path)), reader.notes

"""Copies of an environment and of a home folder: what in them leads to the copies."""

import json
from pathlib import Path

import pytest

from services.builder.executors.process.session.image_runtime.copies import copy_tree
from services.builder.executors.process.session.image_runtime.relocation import Moves, relocate

PACKAGES = "lib/python3.11/site-packages"
KERNEL = "share/jupyter/kernels/mine/kernel.json"


class Copies:
    """An image and a server, which has copies of it."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "images" / "image-1"
        self.server = folder / "servers" / "1"
        for name in ("env", "repo"):
            (self.image / name).mkdir(parents=True)
        self.content = self._text(self.image)
        self.expected = self._text(self.server)

    def _text(self, place: Path) -> str:
        """A text that names the image, or the server in its place where it must be."""
        return f"{place}/repo/src {place}/env {self.image}/env-changes file://{place}/env/lib other\n"

    def write(self, name: str, content: str | bytes | None = None) -> None:
        path = self.image / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = self.content if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def make(self) -> None:
        moves = Moves({self.image / name: self.server / name for name in ("env", "repo")})
        lines: list[str] = []
        for name in ("env", "repo"):
            copy_tree(self.image / name, self.server / name, left_out=lines.append, link=moves.link)
        relocate(self.server / "env", self.server / "repo", moves)
        assert lines == []

    def text(self, name: str) -> str:
        return (self.server / name).read_text()


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path)


@pytest.mark.parametrize("prefix", ["env", "repo/.local", "repo/.venv", "repo/made"])
@pytest.mark.parametrize(
    "name", ["pyvenv.cfg", "bin/script", KERNEL, "etc/jupyter/a/b.json", f"{PACKAGES}/a.pth", f"{PACKAGES}/a.egg-link"]
)
def test_what_tools_write_down_leads_to_the_copies(copies: Copies, prefix: str, name: str) -> None:
    for file in ("pyvenv.cfg", name):
        copies.write(f"{prefix}/{file}")
    copies.make()
    assert copies.text(f"{prefix}/{name}") == copies.expected


@pytest.mark.parametrize("name", ["env/module.py", f"env/{PACKAGES}/module.py", "repo/bin/script", "repo/place.txt"])
def test_what_others_write_down_stays(copies: Copies, name: str) -> None:
    copies.write(name)
    copies.make()
    assert copies.text(name) == copies.content


def test_a_binary_stays_as_it_is(copies: Copies) -> None:
    copies.write("env/bin/binary", b"\0" + copies.content.encode())
    copies.make()
    assert copies.text("env/bin/binary") == "\0" + copies.content


@pytest.mark.parametrize("finder", ["__editable___a_finder.py", "_editable_impl_a.py", "_a_editable_loader.py"])
def test_an_editable_install_leads_to_the_copy_whoever_has_built_it(copies: Copies, finder: str) -> None:
    metadata = f"env/{PACKAGES}/a-1.dist-info"
    origin = json.dumps({"url": f"file://{copies.image}/repo", "dir_info": {"editable": True}})
    copies.write(f"{metadata}/direct_url.json", origin)
    record = f"gr\xfcn.py,,\n{finder},sha256=a,1\na-1.dist-info/direct_url.json,,\ngone.py,,\n\n"
    copies.write(f"{metadata}/RECORD", record.encode("latin-1"))
    copies.write(f"env/{PACKAGES}/{finder}")
    copies.make()
    assert copies.text(f"env/{PACKAGES}/{finder}") == copies.expected
    assert json.loads(copies.text(f"{metadata}/direct_url.json"))["url"] == f"file://{copies.server}/repo"


@pytest.mark.parametrize("origin", ['{"dir_info": {"editable": false}}', "[", ""])
def test_the_files_of_another_package_stay(copies: Copies, origin: str) -> None:
    copies.write(f"env/{PACKAGES}/a-1.dist-info/direct_url.json", origin)
    copies.write(f"env/{PACKAGES}/a-1.dist-info/RECORD", "a.py,,\n")
    copies.write(f"env/{PACKAGES}/a.py")
    copies.make()
    assert copies.text(f"env/{PACKAGES}/a.py") == copies.content


@pytest.mark.parametrize("row", ["{image}/repo/own", "../../../../../../images/image-1/repo/own", "link"])
def test_nothing_else_than_the_copies_is_written_to(copies: Copies, row: str) -> None:
    metadata = f"env/{PACKAGES}/a-1.dist-info"
    copies.write(f"{metadata}/direct_url.json", '{"dir_info": {"editable": true}}')
    copies.write(f"{metadata}/RECORD", row.format(image=copies.image))
    outside = copies.image.parent / "own"
    for file in (outside, copies.image / "repo" / "own"):
        file.write_text(copies.content)
    (copies.image / "env" / PACKAGES / "link").symlink_to(outside)
    copies.make()
    assert outside.read_text() == (copies.image / "repo" / "own").read_text() == copies.content


def test_links_lead_to_the_copies(copies: Copies) -> None:
    copies.write("repo/tool")
    targets = {
        "env/bin/tool": "{}/repo/tool", "repo/link": "{}/env", "repo/near": "tool", "repo/gone": "/gone{}/repo/tool",
    }  # fmt: skip
    for name, target in targets.items():
        (copies.image / name).parent.mkdir(exist_ok=True)
        (copies.image / name).symlink_to(target.format(copies.image))
    (copies.image / "repo" / "next").symlink_to(f"{copies.image}/env-changes")
    copies.make()
    expected = targets | {"repo/gone": f"/gone{copies.image}/repo/tool", "repo/next": f"{copies.image}/env-changes"}
    for name, target in expected.items():
        assert str((copies.server / name).readlink()) == target.format(copies.server)


def test_a_conda_environment_has_its_own_prefix(copies: Copies) -> None:
    paths = [
        {"_path": "text", "prefix_placeholder": "/opt/placehold", "file_mode": "text"},
        {"_path": "binary", "prefix_placeholder": "/opt/placehold", "file_mode": "binary"},
        {"_path": "other"},
        {"_path": "gone", "prefix_placeholder": "/opt/placehold", "file_mode": "text"},
    ]
    copies.write("env/conda-meta/a.json", json.dumps({"paths_data": {"paths": paths}}))
    place, moved = copies.image / "env", copies.server / "env"
    for name in ("text", "other"):
        copies.write(f"env/{name}", f"prefix={place}\n")
    binary = f"ELF\0{place}/lib:{place}/share\0end\0".encode()
    copies.write("env/binary", binary)
    copies.make()
    assert (copies.text("env/text"), copies.text("env/other")) == (f"prefix={moved}\n", f"prefix={place}\n")
    replaced = (moved / "binary").read_bytes()
    assert len(replaced) == len(binary)
    assert [part for part in replaced.split(b"\0") if part] == [b"ELF", f"{moved}/lib:{moved}/share".encode(), b"end"]


def test_a_place_that_is_longer_than_before_is_written_into_no_binary(tmp_path: Path) -> None:
    moves = Moves({tmp_path / "a": tmp_path / "longer", tmp_path / "bb": tmp_path / "b"})
    before = f"\0{tmp_path}/a/lib\0{tmp_path}/bb/lib\0".encode()
    assert moves.prefix(before) == f"\0{tmp_path}/a/lib\0{tmp_path}/b/lib\0\0".encode()

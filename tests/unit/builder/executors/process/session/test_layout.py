"""The folders of a build, and their end."""

from pathlib import Path

from tests.support.other_user import run_as_other_user


def test_a_folder_is_removed_whatever_modes_are_below(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    imports = "from services.builder.executors.process.session.layout import remove_tree"
    code = f"""
folder = Path({str(folder)!r})
for name, mode in (("closed", 0o000), ("kept", 0o555)):
    (folder / name / "below").mkdir(parents=True)
    (folder / name / "file").write_text("")
    (folder / name / "link").symlink_to("/")
    (folder / name).chmod(mode)
remove_tree(folder)
print("removed")
"""
    assert run_as_other_user(imports, code, tmp_path) == "removed\n"
    assert not folder.exists()

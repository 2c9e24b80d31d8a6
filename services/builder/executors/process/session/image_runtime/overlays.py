"""Overlay mounts: folders that a program may change although others share them, as its changes go to another folder.

They need a mount namespace, which root may make, and on most systems everybody (with a user namespace around it).
Source: https://docs.kernel.org/filesystems/overlayfs.html and user_namespaces(7).
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2


class OverlaysRefusedError(Exception):
    """The system lets us mount nothing; the message says what it refused."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """`lowers` are seen at the folder `at`, the uppermost first; what is changed there goes to `changes`.

    `at` may be one of the `lowers`. `changes` and `work`, an empty folder for the kernel, are made; they must be on one
    file system. Where the kernel knows how, the overlay is `volatile`: else its end would write the whole file system
    to the disk, which takes seconds on a busy machine.
    """

    at: Path
    lowers: Sequence[Path]
    changes: Path
    work: Path

    def mount(self) -> None:
        """Mount it, in a namespace of our own. Raise `OverlaysRefusedError`."""
        _remove(self.work)  # the kernel takes none that a volatile overlay has used
        for folder in (self.changes, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        options = "lowerdir=" + ":".join(_escaped(lower, ":") for lower in self.lowers)
        options += f",upperdir={_escaped(self.changes)},workdir={_escaped(self.work)}"
        if os.geteuid() != 0:
            options += ",userxattr"
        try:
            self._mount(f"{options},volatile")
        except OverlaysRefusedError:  # Linux before 5.10
            self._mount(options)

    def _mount(self, options: str) -> None:
        arguments = (b"overlay", os.fsencode(self.at), b"overlay", 0, os.fsencode(options))
        _call("mount", *arguments, what=f"an overlay at {self.at}")

    def unmount(self) -> None:
        """Unmount it, also if a process still has a file open there. Raise `OverlaysRefusedError`."""
        _call("umount2", os.fsencode(self.at), _MNT_DETACH, what=f"the end of the overlay at {self.at}")


def unshare_mounts() -> None:
    """Move this process into a mount namespace of its own, in which it may mount; its children are in it too.

    The process may have one thread only. Raise `OverlaysRefusedError`.
    """
    if not sys.platform.startswith("linux"):
        raise OverlaysRefusedError("overlays, as it is not Linux")

    user, group = os.geteuid(), os.getegid()
    is_root = user == 0
    _call("unshare", _CLONE_NEWNS | (0 if is_root else _CLONE_NEWUSER), what="a mount namespace")
    if not is_root:
        _keep_ids(user, group)
    # Nothing that is mounted from now on is seen in the namespace that we come from.
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None, what="private mounts")


def try_overlays(folder: Path) -> None:
    """Mount an overlay in `folder`, which is made and removed. Raise `OverlaysRefusedError`."""
    lower = folder / "lower"
    lower.mkdir(parents=True)
    overlay = Overlay(at=lower, lowers=[lower], changes=folder / "changes", work=folder / "work")
    overlay.mount()
    try:
        (lower / "file").write_text("")
    except OSError as error:
        raise OverlaysRefusedError(f"a file in an overlay: {error.strerror}") from error
    finally:
        overlay.unmount()


def _remove(folder: Path) -> None:
    """Remove a folder in which the kernel has made others without permissions."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            Path(parent, name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _keep_ids(user: int, group: int) -> None:
    """Let the user namespace have one user and one group: those that we are outside."""
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            Path("/proc/self", name).write_text(content)
        except OSError as error:
            raise OverlaysRefusedError(f"a user namespace: {error.strerror}") from error


def _escaped(path: Path, *more: str) -> str:
    text = str(path)
    for character in ("\\", ",", *more):
        text = text.replace(character, f"\\{character}")
    return text


def _call(name: str, *arguments: object, what: str) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        raise OverlaysRefusedError(f"{what}: {os.strerror(ctypes.get_errno())}")

"""Builds this project without any other package."""

import os
import pathlib
import zipfile

NAME = "garden"
VERSION = "1.0"


def _wheel(folder, files):
    about = f"{NAME}-{VERSION}.dist-info"
    file = f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / file, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return file


def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {f"{NAME}.py": pathlib.Path(f"{NAME}.py").read_text()})


def build_editable(folder, config_settings=None, metadata_directory=None):
    finder = f"import sys\n\nsys.path.append({os.getcwd()!r})\n"
    return _wheel(folder, {f"{NAME}.pth": f"import _find_{NAME}\n", f"_find_{NAME}.py": finder})

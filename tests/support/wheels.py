"""Small wheels, and projects that build one without any other package."""

import io
import zipfile

_ABOUT = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_name(name: str, version: str = "1.0") -> str:
    """Return the file name of a wheel for every Python."""
    return f"{name}-{version}-py3-none-any.whl"


def wheel(name: str, version: str = "1.0", *requires: str) -> bytes:
    """Return a wheel with one module, whose `VERSION` is the version. `requires` are its dependencies."""
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in (
            (f"{name}.py", f"VERSION = {version!r}\n"),
            (f"{about}/METADATA", metadata),
            (f"{about}/WHEEL", _ABOUT),
            (f"{about}/RECORD", ""),
        ):
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), text)
    return content.getvalue()


def project(name: str, *, more: str = "") -> dict[str, str]:
    """Return the files of a project with a module, and a build backend of its own. `more` goes into pyproject.toml."""
    return {
        "pyproject.toml": f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n[project.optional-dependencies]\nmore = []\n{more}',
        "backend.py": _BACKEND.replace("NAME", name),
        f"{name}.py": "VERSION = '1.0'\n",
    }


_BACKEND = """
import os, pathlib, zipfile


def _wheel(folder, path, text):
    about = "NAME-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / "NAME-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(path, text)
        metadata = "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\nProvides-Extra: more\\n"
        wheel.writestr(f"{about}/METADATA", metadata)
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{about}/RECORD", "")
    return "NAME-1.0-py3-none-any.whl"


def build_wheel(folder, config_settings=None, metadata_directory=None):
    text = pathlib.Path("NAME.py").read_text() + f"SETTINGS = {config_settings!r}\\n"
    return _wheel(folder, "NAME.py", text)


def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, "NAME.pth", os.getcwd() + "\\n")
"""

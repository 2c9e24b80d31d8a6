"""The images of `make images`, built on the tests' base; the engine keeps what takes long for the next run.

`python -m tests.support.service_images` builds them before they are needed.
"""

import os
import subprocess

from tests.support.engine import Engine, engine
from tests.support.engine_images import PREFIX
from tests.support.paths import CHECKOUT

IMAGES = ("gateway", "resolver", "builder", "launcher", "hub", "repo2docker")
TAG = "test"
_STAGES = {"deploy/images": ("builder-packages", "hub-packages"), "deploy/images/repo2docker": ("packages",)}
_SECONDS = 900


def ensure(engine: Engine) -> dict[str, str]:
    """Build all images, and see to it that the next run need not install their packages again; return their names."""
    make_images(engine, f"TAG={TAG}")
    names = {image: f"localhost/bindery/{image}:{TAG}" for image in IMAGES}
    for image, name in names.items():
        engine.docker("tag", name, f"{PREFIX}/image-{image}")
    for folder, stages in _STAGES.items():
        for stage in stages:
            context = folder if folder.endswith("repo2docker") else "."
            build = ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"BASE={engine.base}"]
            build += ["--file", f"{folder}/Dockerfile", "--target", stage, "--tag", f"{PREFIX}/stage-{stage}", context]
            _run(engine, build)
    return names


def make_images(engine: Engine, *variables: str) -> str:
    """Run `make images` with variables of its own, and return what it prints."""
    return _run(engine, ["make", "--no-print-directory", "images", *variables])


def build_environment(engine: Engine) -> dict[str, str]:
    """Return the environment of `make images` where nothing can be pulled, and packages come by the host's network."""
    return {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "DOCKER_BUILDKIT": "0",
        "BASE": engine.base,
        "REPO2DOCKER_BASE": engine.base,
        "BUILD_OPTIONS": "--network host",
    }


def _run(engine: Engine, command: list[str]) -> str:
    process = subprocess.run(
        command, cwd=CHECKOUT, env=build_environment(engine), capture_output=True, text=True, timeout=_SECONDS,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, f"{' '.join(command)}\n{process.stdout[-3000:]}\n{process.stderr[-2000:]}"
    return process.stdout


def main() -> None:
    with engine() as running:
        print("\n".join(ensure(running).values()))


if __name__ == "__main__":
    main()

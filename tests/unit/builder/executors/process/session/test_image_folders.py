"""Which images stay and which go when they grow too large."""

import json
import os
import time
from pathlib import Path

import pytest

from services.builder.executors.process.session.bases import Base, BaseManifest
from services.builder.executors.process.session.image_folders import evict, find, in_use
from services.builder.executors.process.session.layout import ImageFolder, Layout, Manifest
from services.builder.executors.process.session.processes import identify
from services.common.models.build import image_key

HOUR = 3600.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.images.mkdir()
    layout.servers.mkdir()
    return layout


def _image(layout: Layout, build_id: str, *, built_ago: float, launched_ago: float | None = None) -> ImageFolder:
    folder = layout.image(build_id)
    folder.repo.mkdir(parents=True)
    manifest = Manifest(image=build_id, build_id=build_id, repo_url="", ref="", python="", created="", start=None)
    folder.manifest_path.write_text(manifest.model_dump_json())
    (folder.path / "size").write_text("100")
    os.utime(folder.manifest_path, (0, time.time() - built_ago))
    if launched_ago is not None:
        folder.last_launched_path.touch()
        os.utime(folder.last_launched_path, (0, time.time() - launched_ago))
    return folder


def _serve(layout: Layout, build_id: str, pid: int, start_time: str) -> None:
    record = {"v": 1, "pid": pid, "start_time": start_time, "build_id": build_id, "port": 1}
    (layout.servers / f"{build_id}.json").write_text(json.dumps(record))


def _there(layout: Layout) -> set[str]:
    return {path.name for path in layout.images.iterdir() if path.name != ".lock"}


def test_the_least_recently_launched_goes_first(layout: Layout) -> None:
    _image(layout, "a-1", built_ago=9 * HOUR, launched_ago=1 * HOUR)
    _image(layout, "b-1", built_ago=2 * HOUR, launched_ago=2 * HOUR)
    _image(layout, "c-1", built_ago=8 * HOUR, launched_ago=8 * HOUR)
    assert evict(layout, max_bytes=200) == ["c-1"]
    assert _there(layout) == {"a-1", "b-1"}


def test_an_image_in_use_stays_and_one_whose_server_died_does_not(layout: Layout) -> None:
    me = identify(os.getpid())
    assert me is not None
    _image(layout, "used-1", built_ago=9 * HOUR, launched_ago=9 * HOUR)
    _image(layout, "dead-1", built_ago=9 * HOUR, launched_ago=1 * HOUR)
    _serve(layout, "used-1", me.pid, me.start_time)
    _serve(layout, "dead-1", me.pid, "somebody else's")
    assert in_use(layout) == {"used-1"}
    assert evict(layout, max_bytes=0) == ["dead-1"]
    assert _there(layout) == {"used-1"}


def test_an_image_that_awaits_its_launch_stays(layout: Layout) -> None:
    _image(layout, "new-1", built_ago=60)
    _image(layout, "old-1", built_ago=700)
    assert evict(layout, max_bytes=0) == ["old-1"]
    assert _there(layout) == {"new-1"}


def test_a_half_built_folder_goes_only_when_nobody_builds_it(layout: Layout) -> None:
    layout.image("half-1").repo.mkdir(parents=True)
    layout.image("busy-1").repo.mkdir(parents=True)
    busy = layout.build("busy-1")
    busy.path.mkdir(parents=True)
    lock = busy.take_lock()
    assert lock is not None
    with lock:
        assert evict(layout, max_bytes=1000) == []
        assert _there(layout) == {"busy-1"}


def test_an_image_whose_manifest_is_of_another_release_stays(layout: Layout) -> None:
    folder = _image(layout, "new-1", built_ago=9 * HOUR)
    folder.manifest_path.write_text('{"v": 2}')
    assert evict(layout, max_bytes=0) == []
    assert _there(layout) == {"new-1"}


def test_the_newest_finished_attempt_is_the_image(layout: Layout) -> None:
    key = image_key("i")
    for attempt in (2, 10, 9):
        _image(layout, f"{key}-{attempt}", built_ago=HOUR)
    layout.image(f"{key}-11").repo.mkdir(parents=True)
    folder = find(layout, "i", has_overlays=True)
    assert folder is not None
    assert folder.build_id == f"{key}-10"
    assert find(layout, "j", has_overlays=True) is None


def test_an_image_that_needs_overlays_is_none_where_there_are_none(layout: Layout) -> None:
    key = image_key("i")
    folder = _image(layout, f"{key}-1", built_ago=HOUR)
    manifest = folder.manifest()
    assert manifest
    folder.manifest_path.write_text(manifest.model_copy(update={"is_layered": True}).model_dump_json())
    assert find(layout, "i", has_overlays=False) is None
    assert find(layout, "i", has_overlays=True)


def _base(layout: Layout, name: str, *, made_ago: float) -> Base:
    base = Base(layout.bases / f"{name}-{int(time.time() - made_ago)}")
    base.env.mkdir(parents=True)
    (base.path / "base.json").write_text(BaseManifest(python="3", size_bytes=100).model_dump_json())
    return base


def test_bases_count_and_go_once_no_image_needs_them(layout: Layout) -> None:
    needed, young, old = (
        _base(layout, name, made_ago=ago) for name, ago in (("a", 9 * HOUR), ("b", 0), ("c", 9 * HOUR))
    )
    folder = _image(layout, "i-1", built_ago=HOUR)
    manifest = folder.manifest()
    assert manifest
    folder.manifest_path.write_text(manifest.model_copy(update={"base": needed.name}).model_dump_json())
    evict(layout, max_bytes=400, base_max_age_seconds=HOUR)
    assert [base.path.is_dir() for base in (needed, young, old)] == [True, True, False]

    assert young.hold()
    assert evict(layout, max_bytes=50, grace_seconds=0, base_max_age_seconds=HOUR) == ["i-1"]
    assert [base.path.is_dir() for base in (needed, young)] == [False, True]
    assert {path.name for path in layout.bases.iterdir()} == {young.name}

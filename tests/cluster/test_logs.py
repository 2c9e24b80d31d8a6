"""Logs of Jobs that are not tame: hostile bytes, endless lines, and a node that rotates them away."""

from pathlib import Path

import pytest

from tests.cluster.conftest import Start
from tests.support.cluster import Namespace
from tests.support.polling import eventually

URL = "https://example.org/org/repo"
PODS = Path("/var/log/pods")


def test_hostile_bytes_and_a_line_of_megabytes_are_survived(start_noop: Start) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, "hostile.hostile-1")["build_id"]
    assert builders.outcome(build_id)["state"] == "built"
    log = builders.log(build_id)
    assert "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} " in log
    assert "The line is cut" in log
    assert len(log) < 100_000
    builders.assert_every_line_once(build_id)


@pytest.mark.usefixtures("own_cluster")
def test_lines_that_the_node_has_rotated_away_while_no_worker_read_them_are_told_as_a_gap(
    start_noop: Start, namespace: Namespace
) -> None:
    builders = start_noop(stream_max_bytes=256 << 20)
    build_id = builders.request_build(URL, "rotated.lines-60.ms-500.kib-700")[
        "build_id"
    ]  # 1.4 MiB a second, rotated at 10 MiB
    builders.until_logged(build_id, "line 2\n")
    builders.workers[0].kill()

    def rotated_files() -> list[Path]:
        return list(PODS.glob(f"{namespace.name}_bindery-{build_id}-*/builder/0.log.*"))

    eventually(rotated_files, "a log that the kubelet has rotated", 60)
    builders.start_worker()
    assert builders.outcome(build_id, 120)["state"] == "built"
    log = builders.log(build_id)
    assert "Lines of the build are missing here: its node has rotated the log." in log
    lines = [int(line.split()[1]) for line in log.splitlines() if line.startswith("line ")]
    assert lines == sorted(set(lines))
    assert len(lines) < 60
    assert "those were 60 lines" in log

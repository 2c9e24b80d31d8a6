"""How tests are spread over workers."""

from collections import OrderedDict
from dataclasses import dataclass, field
from types import SimpleNamespace

from tests.support.parallel import LONGEST, FilesAndUnitTests
from tests.support.paths import CHECKOUT

UNIT = "tests/unit/docs/test_generate.py::test_"
SHORT_FILE = "tests/contract/test_resolver_api.py"


@dataclass
class Worker:
    """A worker, as far as the scheduler talks to it."""

    name: str
    indices: list[int] = field(default_factory=list)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def gateway(self) -> SimpleNamespace:
        return SimpleNamespace(id=self.name)

    def send_runtest_some(self, indices: list[int]) -> None:
        self.indices += indices


def worker_tests(worker_name: str, *tests: str, count: int) -> list[str]:
    """The tests that a worker gets when it asks `count` times."""
    scheduler = FilesAndUnitTests.__new__(FilesAndUnitTests)
    worker = Worker(worker_name)
    scheduler.workqueue = OrderedDict()
    for test in tests:
        scheduler.workqueue.setdefault(scheduler._split_scope(test), {})[test] = False
    scheduler.assigned_work = {}
    scheduler.registered_collections = {worker: list(tests)}
    for _ in range(count):
        scheduler._assign_work_unit(worker)
    return [tests[index] for index in worker.indices]


def test_a_file_stays_together_and_unit_tests_are_given_out_one_by_one() -> None:
    tests = [f"{SHORT_FILE}::test_a", f"{UNIT}a", f"{SHORT_FILE}::test_b", f"{UNIT}b"]
    assert worker_tests("gw0", *tests, count=1) == [f"{SHORT_FILE}::test_a", f"{SHORT_FILE}::test_b"]
    assert worker_tests("gw1", *tests, count=1) == [f"{UNIT}a"]


def test_half_of_the_workers_begin_with_files_the_longest_first_and_all_end_with_what_is_left() -> None:
    tests = [f"{UNIT}a", f"{SHORT_FILE}::test_a", f"{UNIT}b", f"{LONGEST[1]}::test_a", f"{LONGEST[0]}::test_a"]
    files = [f"{LONGEST[0]}::test_a", f"{LONGEST[1]}::test_a", f"{SHORT_FILE}::test_a"]
    assert worker_tests("gw2", *tests, count=5) == [*files, f"{UNIT}a", f"{UNIT}b"]
    assert worker_tests("gw3", *tests, count=5)[:2] == [f"{UNIT}a", f"{UNIT}b"]


def test_the_longest_files_are_there() -> None:
    assert [file for file in LONGEST if not (CHECKOUT / file).is_file()] == []

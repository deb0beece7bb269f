"""Work that is spread over processes: its results, its errors, and what happens to the processes."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import parallel_work  # in `tests/support`, where the other processes find it too
import pytest

from neuropbr_core.errors import DataError
from neuropbr_core.files import process_is_alive
from neuropbr_core.parallel import run_jobs, stream_jobs


def stream(function, jobs, processes=2):
    return stream_jobs(function, jobs, processes, "squaring", "try --workers 1")


def test_results_keep_the_order_of_the_jobs() -> None:
    assert run_jobs(parallel_work.square, range(20), 2, "squaring") == [number**2 for number in range(20)]


def test_results_of_a_job_come_one_by_one() -> None:
    with closing(stream(parallel_work.multiples, [1, 10, 100])) as results:
        assert sorted(results) == [1, 2, 3, 10, 20, 30, 100, 200, 300]


def test_none_is_a_job_too() -> None:
    with closing(stream(parallel_work.echo, [None, 1, None])) as results:
        assert sorted(results, key=str) == [1, None, None]


def test_an_error_keeps_its_type_and_its_place() -> None:
    with (
        pytest.raises(DataError, match="7 is odd") as caught,
        closing(stream(parallel_work.refuse, [2, 7])) as results,
    ):
        list(results)
    assert "parallel_work.py" in caught.value.__notes__[0]


def test_an_error_that_does_not_pickle_is_told() -> None:
    with (
        pytest.raises(RuntimeError, match="StubbornError: 1 of 2"),
        closing(stream(parallel_work.resist, [3])) as results,
    ):
        list(results)


@pytest.mark.parametrize(
    ("function", "end"),
    [
        (parallel_work.kill_itself, "was ended by SIGKILL, most likely because memory ran out,"),
        (parallel_work.end_itself, "was ended by SIGTERM"),
        (partial(parallel_work.leave, 3), "ended with status 3"),
        (partial(parallel_work.leave, -1), "ended with status 255"),  # above 128, and no signal
    ],
)
def test_a_process_that_dies_is_named_with_its_job(function, end) -> None:
    message = rf"^squaring: process \d+ {re.escape(end)} at brick; try --workers 1$"
    with pytest.raises(DataError, match=message), closing(stream(function, ["brick"])) as results:
        list(results)


def test_closing_ends_processes_that_work() -> None:
    with closing(stream(parallel_work.sleep, [60, 60])) as results:
        pids = [next(results), next(results)]
    assert not any(map(process_is_alive, pids))


@pytest.mark.parametrize(("number", "to_group"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_processes_end_with_their_parent(number, to_group) -> None:
    # A terminal sends Ctrl-C to the whole group of processes; SIGKILL ends the parent alone, which cleans nothing up.
    command = [sys.executable, parallel_work.__file__]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pids = [int(process.stdout.readline()), int(process.stdout.readline())]
        if to_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        errors = process.stderr.read()
    deadline = time.monotonic() + 20
    while any(map(process_is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(process_is_alive, pids))
    assert errors.count("Traceback") == int(to_group)  # the parent's own, of Python's usual handler


def test_the_first_processes_of_a_program_do_not_hear_interrupts() -> None:
    # In a fresh interpreter: the first process that it starts also starts multiprocessing's tracker.
    program = (
        "import parallel_work\n"
        "from neuropbr_core.parallel import stream_jobs\n"
        "if __name__ == '__main__':\n"
        "    print(list(stream_jobs(parallel_work.hears_interrupts, [1, 2], 2, 'listening', 'wake up')))\n"
    )
    support = str(Path(parallel_work.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": support}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, False]", done.stderr

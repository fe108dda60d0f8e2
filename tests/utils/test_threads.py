"""Work in threads: results are in order, and items are taken only as needed."""

import threading
from itertools import count, islice

import pytest

from showtell.utils import threads as parallel
from showtell.utils.threads import parallel_map


def test_results_are_in_order_if_the_work_ends_out_of_order(monkeypatch):
    monkeypatch.setattr(parallel, "THREADS", 4)
    last_is_done = threading.Event()

    def work(number):
        if number == 0:
            assert last_is_done.wait(30)
        if number == 3:
            last_is_done.set()
        return number

    assert list(parallel_map(work, range(20), ahead=2)) == list(range(20))


def test_endless_items_are_taken_only_as_needed(monkeypatch):
    monkeypatch.setattr(parallel, "THREADS", 2)
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    assert list(islice(parallel_map(lambda number: -number, items(), ahead=3), 5)) == [0, -1, -2, -3, -4]
    assert len(taken) <= 5 + 3 * 2 + 1


def test_an_error_is_raised_in_place_of_its_result():
    results = parallel_map(lambda number: 1 // number, [1, 0, 1], ahead=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)

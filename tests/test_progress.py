"""One reporter counts, reports and stops."""

import pytest

from convscope.errors import StoppedError
from convscope.progress import Reporter


def test_each_is_reported_before_it_is_passed_on():
    events = []
    reporter = Reporter(2, "letters", lambda *report: events.append(report))
    letters = reporter.each("ab", str.upper)
    events.append(next(letters))
    events.append(next(letters))
    assert next(letters, None) is None
    assert [(0, 2, "A"), "a", (1, 2, "B"), "b"] == events
    assert 2 == reporter.done


def test_each_ends_where_somebody_asks_to_stop():
    answers = iter([False, True])
    reporter = Reporter(3, "letters", should_stop=lambda: next(answers))
    assert ["a"] == list(reporter.each("abc"))
    assert reporter.stopped


def test_parts_are_counted_by_their_length():
    events = []
    reporter = Reporter(5, "cells", lambda *report: events.append(report))
    assert [[1, 2, 3], [4, 5]] == list(reporter.all_of([[1, 2, 3], [4, 5]]))
    assert [(3, 5, "cells"), (5, 5, "cells")] == events


def test_all_of_the_parts_or_an_error():
    answers = iter([False, True])
    reporter = Reporter(5, "cells", should_stop=lambda: next(answers))
    found = []
    with pytest.raises(StoppedError, match="Stopped on request, after 3 of 5 cells: no result yet"):
        found.extend(reporter.all_of([[1, 2, 3], [4, 5]]))
    assert [[1, 2, 3]] == found

"""A share of the fuzzing on every run; all of it: `python -m tests.fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_ends_in_a_traceback(name, tmp_path):
    counted, seen = fuzz(name, 40, 1, tmp_path)
    assert not seen, seen[0]
    assert counted["refused"] > 4

"""Which rows the memory check tries. That it changes no result is in test_resume.py."""

from __future__ import annotations

import numpy as np

from hyperformer.data.dataset import Ragged, TokenizedSplit
from hyperformer.training.memory.memory_check import longest_rows


def split(*lengths: tuple[int, int]) -> TokenizedSplit:
    source, target = (np.array(column) for column in zip(*lengths, strict=True))
    ids = [np.arange(column.sum(), dtype=np.int32) for column in (source, target)]
    texts = [str(row) for row in range(len(lengths))]
    return TokenizedSplit(Ragged(ids[0], source), Ragged(ids[1], target), texts, 0, 0, "x")


def test_no_row_is_longer_than_those_that_are_tried() -> None:
    # The longest source, the longest target, and the most tokens; the equally long row with the shorter target not.
    both = {"a": split((90, 2), (90, 3), (10, 2)), "b": split((5, 60), (80, 50))}
    assert longest_rows(both) == [("a", 1), ("b", 1), ("b", 0)]
    assert longest_rows({"a": split((4, 2), (9, 2), (9, 1)), "b": split((8, 2))}) == [("a", 1)]


def test_some_rows_of_a_split() -> None:
    rows = split((3, 1), (2, 2), (4, 1)).subset([2, 0])
    assert [list(ids) for ids in rows.sources([0, 1])] == [[5, 6, 7, 8], [0, 1, 2]]
    assert [list(ids) for ids in rows.targets([0, 1])] == [[3], [0]]
    assert rows.target_texts == ["2", "0"]

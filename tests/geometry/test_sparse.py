"""The sparse map against its dense matrix."""

import numpy as np
import torch
from torch.testing import assert_close

from hrn_opt.geometry.sparse import SparseMap


def test_entries_in_any_order_match_the_dense_product():
    rows, columns = np.array([4, 0, 4, 2, 0, 4]), np.array([1, 2, 0, 1, 0, 2])  # rows 1, 3 and 5 hold nothing
    weights = np.array([0.5, -1.0, 2.0, 3.0, 0.25, 1.0])
    dense = torch.zeros(6, 3)
    for row, column, weight in zip(rows, columns, weights, strict=True):
        dense[row, column] += weight
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert_close(SparseMap.from_entries(rows, columns, weights, 6)(values), dense @ values)


def test_repeated_entries_add_up():
    doubled = SparseMap.from_entries(np.array([0, 0]), np.array([0, 0]), np.array([1.0, 2.0]), 1)
    assert_close(doubled(torch.tensor([[5.0]])), torch.tensor([[15.0]]))

"""A fixed sparse linear map, applied as one fused gather and weighted sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SparseMap:
    """Rows of (column, weight) pairs in CSR order; `torch.nn.functional.embedding_bag` is the fastest way to apply it.

    columns: (E,) int32.
    offsets: (M,) int32, where each row starts.
    weights: (E,) float32.
    """

    columns: Tensor
    offsets: Tensor
    weights: Tensor

    @classmethod
    def from_entries(
        cls,
        rows: NDArray[np.integer[Any]],
        columns: NDArray[np.integer[Any]],
        weights: NDArray[np.floating[Any]],
        row_count: int,
    ) -> SparseMap:
        """The map with weights[k] at (rows[k], columns[k]), in any order; rows without entries give 0."""
        order = np.argsort(rows, kind="stable")
        offsets = np.searchsorted(rows[order], np.arange(row_count))
        return cls(
            torch.from_numpy(columns[order].astype(np.int32)),
            torch.from_numpy(offsets.astype(np.int32)),
            torch.from_numpy(weights[order].astype(np.float32)),
        )

    def __call__(self, values: Tensor) -> Tensor:
        """(M, C) for values (N, C) float32."""
        return F.embedding_bag(self.columns, values, self.offsets, mode="sum", per_sample_weights=self.weights)

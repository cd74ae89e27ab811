"""What tests of finding share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[2] / "data" / "find_reference.npz"
    with np.load(path, allow_pickle=False) as file:
        return dict(file)

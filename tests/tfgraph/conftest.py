"""What tests of graphs share."""

import numpy as np
import pytest

from tests.tfgraph.stored import DATA


@pytest.fixture(scope="module")
def masks() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "masks.npz"))

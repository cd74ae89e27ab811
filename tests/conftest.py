"""Fixtures shared by all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def example_photo() -> Path:
    """Eileen Collins, NASA portrait, 512 × 512, one frontal face."""
    return Path(__file__).parent.parent / "examples" / "astronaut.jpg"


@pytest.fixture(scope="session")
def model():
    """The embedded model, loaded once for all tests."""
    import hrn_opt

    return hrn_opt.load("builtin")

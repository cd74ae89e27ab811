"""What the tests of the server's long life share."""

import pytest

from tests.soak.house import house


@pytest.fixture(scope="session")
def is_long(request):
    return request.config.getoption("long")


@pytest.fixture(scope="session")
def photo(example_photo):
    """As a form takes it."""
    return "astronaut.jpg", example_photo.read_bytes()


@pytest.fixture
def start(tmp_path):
    """Starts servers below the same TMPDIR; none is left running."""
    houses = []

    def start(*flags, temporary=tmp_path / "tmp", **variables):
        houses.append(house(temporary, *flags, **variables))
        return houses[-1].__enter__()

    yield start
    for one in houses:
        one.__exit__(None, None, None)

"""A small made-up pack, published and prepared, made once for all tests of HRN."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published_pack(tmp_path_factory) -> Path:
    """A whole small pack in the published layout; not to be written to."""
    from hrn_opt.hrn.synthetic import write_pack

    return write_pack(tmp_path_factory.mktemp("hrn") / "published", seed=3, size="small")


@pytest.fixture(scope="session")
def prepared_pack(published_pack) -> Path:
    """Its prepared form; not to be written to."""
    from hrn_opt.hrn.prepare import prepare

    return prepare(published_pack, published_pack.with_name("prepared"))


@pytest.fixture
def linked_pack(published_pack, tmp_path) -> Path:
    """The small pack as a folder of links, whose entries a test may replace or remove."""
    folder = tmp_path / "linked"
    for path in published_pack.rglob("*"):
        target = folder / path.relative_to(published_pack)
        if path.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    return folder

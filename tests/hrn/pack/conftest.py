"""What tests of packs share."""

import shutil

import pytest

from hrn_opt.hrn.pack.prepared import open_prepared


@pytest.fixture(scope="module")
def opened(prepared_pack):
    return open_prepared(prepared_pack)


@pytest.fixture
def own_pack(prepared_pack, tmp_path):
    """A prepared pack that a test may spoil."""
    return shutil.copytree(prepared_pack, tmp_path / "own")

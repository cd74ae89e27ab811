"""What tests of loading share."""

import pytest

from hrn_opt.hrn.pack.prepared import open_prepared


@pytest.fixture(scope="module")
def pack(prepared_pack):
    return open_prepared(prepared_pack)

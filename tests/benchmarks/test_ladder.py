"""The published model class runs unmodified on a small pack, and every rung gives its result."""

import numpy as np
import pytest

from benchmarks.ladder import measure_ladder
from benchmarks.official import NVDIFFRAST_STAND_IN, PYTORCH3D_STAND_IN, Step
from hrn_opt.hrn.pack.prepare import prepare
from testing.synthetic_pack.pack import write_pack
from tests.oracle.official_stages import need_official

pytestmark = [pytest.mark.slow, pytest.mark.oracle]


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    need_official()
    published = write_pack(tmp_path_factory.mktemp("ladder") / "published", seed=5, size="full", detectors=False)
    return published, prepare(published, published.with_name("prepared"))


def test_every_rung_gives_the_published_result(packs):
    said = []
    result = measure_ladder(*packs, 1, lambda what, fraction: said.append(fraction), device="cpu")
    names = [rung.name for rung in result.rungs]
    assert names == ["official", *(step.name.lower().replace("_", "-") for step in Step), "engine", "bf16"]
    assert set(result.stand_ins) == {NVDIFFRAST_STAND_IN, PYTORCH3D_STAND_IN}
    assert result.uv_calls > 100 and result.unmemoised_s > result.uv_calls * result.uv_call_s
    assert said == sorted(said) and said[-1] < 1
    for rung in result.rungs:
        half = rung.name == "bf16"
        assert rung.difference.vertices_dm <= 1e-4, rung.name
        assert rung.difference.texture_db >= 58, rung.name
        assert half or (rung.difference.texture_mean <= 0.08 and rung.difference.texture_p99 <= 0.7), rung.name
        assert half or rung.difference.texture_p999 <= 1.5, rung.name
        assert rung.photo.runs == 1 and rung.memory_mb["peak_rss_mb"] > 100
        assert np.isfinite([rung.gain, rung.load_s, rung.first_s]).all()

"""The stages together on the small pack: faces do not mix, and the mask gates every detail."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from hrn_opt.hrn import stages
from hrn_opt.hrn.loading.build import TextureNetworks, load_assets
from hrn_opt.hrn.pack.prepared import open_prepared


@pytest.fixture(scope="module")
def loaded(prepared_pack) -> SimpleNamespace:
    """networks and assets."""
    pack = open_prepared(prepared_pack)
    assets = load_assets(pack, torch.device("cpu"), torch.float32)
    return SimpleNamespace(networks=TextureNetworks(pack).eval(), assets=assets)


def views(batch: int) -> SimpleNamespace:
    """Two different made-up faces: image (B, 3, 224, 224), detail (B, 3, 512, 512), skin (B, 1, 224, 224)."""
    coarse = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(5))
    enlarged = (F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True) for size in (224, 512))
    image, detail = (view.clamp(0, 1)[:batch] for view in enlarged)
    down, across = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    skin = torch.stack([(across**2 + down**2 < 0.6), (across > -0.2)])[:, None].float()
    return SimpleNamespace(image=image, detail=detail, skin=skin[:batch])


@pytest.fixture(scope="module")
def both(loaded) -> SimpleNamespace:
    """Both faces in one batch."""
    return run(loaded, views(2))


@torch.inference_mode()
def run(loaded, given) -> SimpleNamespace:
    coarse = stages.coarse_shape(loaded.networks, loaded.assets, given.image)
    detailed = stages.detailed_shape(loaded.networks, loaded.assets, coarse, given.detail, given.skin)
    return SimpleNamespace(
        coarse=coarse, detailed=detailed, texture=stages.texture(loaded.assets, coarse, detailed, given.image).texture
    )


def test_sizes(both):
    vertices = both.coarse.shape.shape[1]
    assert both.coarse.coefficients.shape == (2, 257)
    sizes = {
        "vertices": (2, vertices, 3),
        "deformation": (2, 3, 64, 64),
        "displacement": (2, 1, 256, 256),
        "normals": (2, 3, 256, 256),
        "albedo": (2, 3, 256, 256),
        "valid_mask": (2, 1, 256, 256),
    }
    for name, size in sizes.items():
        assert getattr(both.detailed, name).shape == size and getattr(both.detailed, name).isfinite().all(), name
    assert both.texture.shape == (2, 3, 256, 256) and both.texture.isfinite().all()


def test_a_batch_equals_its_faces_one_by_one(loaded, both):
    given = views(2)
    for face in range(2):
        one = SimpleNamespace(**{name: picture[face : face + 1] for name, picture in vars(given).items()})
        alone = run(loaded, one)
        assert_close(alone.coarse.coefficients[0], both.coarse.coefficients[face], atol=5e-6, rtol=0)
        for name, atol in (("vertices", 5e-5), ("deformation", 1e-5), ("displacement", 5e-5)):
            assert_close(getattr(alone.detailed, name)[0], getattr(both.detailed, name)[face], atol=atol, rtol=0)
        # Rounding moves a texel over the jumps of the unwrap now and then, so the mean is bounded.
        assert (alone.texture[0] - both.texture[face]).abs().mean() < 1e-3
    assert (both.texture[0] - both.texture[1]).abs().mean() > 0.02  # else there is nothing to mix up


def test_without_skin_nothing_is_deformed_or_displaced(loaded, both):
    given = views(2)
    given.skin[1] = 0
    bare = run(loaded, given)
    assert (bare.detailed.deformation[1] == 0).all() and (bare.detailed.displacement[1] == 0).all()
    assert_close(bare.detailed.vertices[1], bare.coarse.pose.apply(bare.coarse.shape)[1], atol=1e-6, rtol=0)
    assert torch.equal(bare.detailed.deformation[0], both.detailed.deformation[0])
    assert both.detailed.deformation[1].abs().max() > 1e-4 and both.detailed.displacement[1].abs().max() > 1e-6


def test_vertices_follow_the_deformation_map(loaded, both):
    """What moved a vertex lies within the range of the map's values round it."""
    moved = (both.detailed.vertices - both.coarse.pose.translation[:, None]) @ both.coarse.pose.rotation.transpose(1, 2)
    moved = moved - both.coarse.shape
    coarse = -F.max_pool2d(-both.detailed.deformation, 3, 1, 1).flatten(2)
    high = F.max_pool2d(both.detailed.deformation, 3, 1, 1).flatten(2)
    columns = (loaded.assets.uv[:, 0] * 64).long().clamp(0, 63)
    rows = (64 - 1 - (loaded.assets.uv[:, 1] * 64).long()).clamp(0, 63)
    around = (rows * 64 + columns)[None, None].expand(2, 3, -1)
    assert (moved.transpose(1, 2) >= coarse.gather(2, around) - 2e-6).all()
    assert (moved.transpose(1, 2) <= high.gather(2, around) + 2e-6).all()


def test_a_darker_target_darkens_the_texture(loaded, both):
    target = views(2).image
    with torch.inference_mode():
        darker = stages.texture(loaded.assets, both.coarse, both.detailed, target * 0.5).texture
    change = (both.texture - darker).mean((1, 2, 3))
    assert (change > 0.01).all()

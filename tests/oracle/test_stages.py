"""Each stage of the texture path against the published code, on a small pack."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from hrn_opt.hrn import stages
from hrn_opt.hrn.align.face_crop import align, place
from hrn_opt.hrn.exact.pytorch3d_uv import uv_fragments
from hrn_opt.hrn.loading.build import load_assets
from hrn_opt.hrn.output.mesh import output_normals
from hrn_opt.hrn.pack.prepare import prepare
from hrn_opt.hrn.pack.prepared import open_prepared
from hrn_opt.hrn.shape.detail import detail_normals, smooth_mask
from hrn_opt.hrn.shape.morphable import Coefficients, pose_of, shade, to_camera
from hrn_opt.hrn.texture.fit import fit_texture, rendering_of
from hrn_opt.hrn.texture.retouch import de_retouch
from hrn_opt.hrn.uv import unwrap, vertex_sampler
from testing.synthetic_pack.pack import write_pack
from tests.oracle.official_stages import face_model, fitted, official_stages, whole_model

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def official() -> SimpleNamespace:
    return official_stages()


@pytest.fixture(scope="module")
def pack(official, tmp_path_factory) -> SimpleNamespace:
    """folder: a small published pack.
    assets: ours of it.
    face: the published morphable model of it.
    """
    folder = write_pack(tmp_path_factory.mktemp("stages") / "published", seed=7, size="small", detectors=False)
    opened = open_prepared(prepare(folder, folder.with_name("prepared")))
    assets = load_assets(opened, torch.device("cpu"), torch.float32)
    uv = np.load(folder / "assets" / "bfm_uvs2.npy")
    layout = uv_fragments(uv, opened.tensor("uv.faces").numpy(), 256)
    standard = opened.tensor("align.lm3d").numpy()
    return SimpleNamespace(
        folder=folder, assets=assets, face=face_model(official, str(folder / "assets"), layout), standard=standard
    )


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def coefficients() -> torch.Tensor:
    """(2, 257) of two unlike faces, turned and off the middle."""
    scale = torch.ones(257) * 0.7
    scale[224:227], scale[227:254], scale[254:] = 0.2, 0.15, 0.1
    return randn(2, 257, seed=1) * scale


def picture(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(B, 3, H, W) smooth colours with noise on them."""
    smooth = F.interpolate(rand(batch, 3, 9, 9, seed=seed), (height, width), mode="bicubic", align_corners=True)
    return (smooth + 0.03 * randn(batch, 3, height, width, seed=seed)).clamp(0, 1)


@pytest.mark.parametrize("case", range(12))
def test_align(official, pack, case):
    """Both crops bit for bit, whatever the photo's shape; cases 0 to 5 lie on whole-pixel ties, as the golden ones."""
    random = np.random.default_rng(case)
    height, width = [(640, 640), (480, 640), (301, 223)][case % 3]
    lm = official.utils.load_lm3d(str(pack.folder / "assets"))
    assert_close(torch.from_numpy(pack.standard), torch.from_numpy(lm).double(), atol=0, rtol=0)
    points = np.stack([np.full(68, np.nan)] * 2, 1)
    numbers, means = [36, 39, 42, 45, 30, 48, 54], [0, 0, 1, 1, 2, 3, 4]
    scale, yaw = (180.0, 0.1 * (case - 2)) if case < 6 else (random.uniform(60, 250), random.uniform(-0.5, 0.5))
    at = np.array([width / 2, height / 2 + 10]) + (0 if case < 6 else random.uniform(-40, 40, 2))
    turned = np.cos(yaw) * lm[:, 0] + np.sin(yaw) * lm[:, 2]
    points[numbers] = np.stack([at[0] + scale * turned, at[1] - scale * lm[:, 1]], 1)[means]
    if case >= 6:
        points[numbers] += random.normal(size=(7, 2)) * 3
    photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    crops = align(photo, torch.from_numpy(points), pack.standard)
    flipped = points.copy()
    flipped[:, 1] = height - 1 - flipped[:, 1]
    small = official.utils.align_img(Image.fromarray(photo), flipped, lm)[1]
    large = official.utils.align_img(
        Image.fromarray(photo), flipped, lm, target_size=512, rescale_factor=102.0 * 512 / 224
    )[1]
    np.testing.assert_array_equal(crops.rgb, np.asarray(small))
    expected = torch.from_numpy(np.array(large)).permute(2, 0, 1)
    assert torch.equal((crops.detail * 255).round().byte(), expected)


def test_least_squares(official, pack):
    """The placement's scale and shift, seen through a photo so large that whole pixels show their tenth digit."""
    points = np.random.default_rng(0).normal(size=(68, 2)) * 100 + 300
    size = 10**8
    flipped = points.copy()
    flipped[:, 1] = size - 1 - flipped[:, 1]
    shift, scale = official.utils.POS(official.utils.extract_5p(flipped).T, pack.standard.T)
    placement = place(torch.from_numpy(points), pack.standard, (size, size), 224)
    assert placement.size_wh[0] == int(size * (102 / scale))
    assert abs(placement.left - (placement.size_wh[0] / 2 - 112 + (shift[0, 0] - size / 2) * (102 / scale))) <= 1


def test_morphable_model(pack, coefficients):
    ours, theirs = pack.assets.morphable, pack.face
    parts, split = Coefficients.split(coefficients), pack.face.split_coeff(coefficients)
    shape = theirs.compute_shape(split["id"], split["exp"])
    assert_close(ours.shape(parts), shape, atol=2e-6, rtol=0)
    rotation = theirs.compute_rotation(split["angle"])
    pose = pose_of(parts)
    assert_close(pose.rotation, rotation, atol=2e-7, rtol=0)
    posed = theirs.transform(shape, rotation, split["trans"])
    assert_close(pose.apply(shape), posed, atol=1e-6, rtol=0)
    assert_close(to_camera(posed), theirs.to_camera(posed.clone()), atol=0, rtol=0)
    assert_close(ours.normals(shape), theirs.compute_norm(shape), atol=2e-5, rtol=0)  # thin triangles


def test_albedo_map(pack, coefficients):
    """Ours halved the basis once; upstream halves each map."""
    full = pack.face.compute_albedo_map(coefficients[:, 144:224]).permute(0, 3, 1, 2)
    halved = F.interpolate(full, (256, 256), mode="bilinear")
    found = pack.assets.morphable.albedo_map(Coefficients.split(coefficients))
    assert_close(found, halved, atol=3e-6, rtol=0)
    assert halved.std((2, 3)).min() > 0.01


def test_shading(pack):
    normals, albedo, light = F.normalize(randn(2, 3, 256, 256), dim=1), rand(2, 3, 256, 256), randn(2, 27, seed=3)
    expected = pack.face.compute_color_map(albedo, normals, light)
    found = shade(normals.flatten(2), light).view_as(albedo) * albedo
    assert_close(found, expected, atol=5e-6, rtol=0)  # nine terms, some over 2


def test_layout_interpolation(pack):
    values = randn(2, 1669, 3)
    assert_close(pack.assets.grid.interpolate(values), pack.face.render.world2uv(values), atol=1e-6, rtol=0)
    assert 0.5 < len(pack.assets.grid.texels) / 256**2 < 1  # some texels stay uncovered


@pytest.mark.parametrize("size_hw", [(224, 224), (512, 512), (300, 200)])
def test_unwrap(pack, coefficients, size_hw):
    """From one map of positions and from our own; the published rule jumps at whole pixels, and rounding takes part."""
    shape = pack.assets.morphable.shape(Coefficients.split(coefficients))
    camera = to_camera(pose_of(Coefficients.split(coefficients)).apply(shape * 1.2))
    image = picture(2, *size_hw)
    expected = pack.face.get_texture_map(camera, image).permute(0, 3, 1, 2)
    for positions in (pack.face.render.world2uv(camera), pack.assets.grid.interpolate(camera)):
        difference = (unwrap(positions, image) - expected).abs()
        # Upstream projects with one matrix product, whose last bit differs: 3e-5 px, and a few jumps.
        assert difference.mean() < 2e-6 and (difference > 1e-4).float().mean() < 1e-4


def test_reading_the_deformation(pack):
    maps, shape = randn(2, 3, 64, 64), randn(2, 1669, 3, seed=4)
    _, expected = pack.face.add_nonlinear_offset(shape, maps.permute(0, 2, 3, 1), pack.assets.uv)
    found = stages._at_vertices(vertex_sampler(pack.assets.uv, 64), maps)
    assert_close(found, expected, atol=2e-6, rtol=0)


def test_smoothed_mask(official):
    mask = rand(2, 1, 256, 256)
    mask[1] = (mask[1] > 0.02).float()
    model = official.model.FaceReconModel.__new__(official.model.FaceReconModel)
    assert_close(smooth_mask(mask), model.smooth_valid_mask(mask), atol=1e-6, rtol=0)


def test_detail_normals(pack, coefficients):
    parts = Coefficients.split(coefficients)
    shape = pack.assets.morphable.shape(parts)
    vertices, normals = pose_of(parts).apply(shape), pack.assets.morphable.normals(shape) @ pose_of(parts).rotation
    displacement = 0.02 * F.interpolate(randn(2, 1, 40, 40), (256, 256), mode="bicubic")
    expected = pack.face.displacement2normal(displacement, vertices, normals)
    surface = [pack.face.render.world2uv(values) for values in (vertices, normals)]
    found = detail_normals(*surface, displacement)
    difference = (found - expected).abs()
    # Texels with next to no area round to any direction; elsewhere 256² cells of 8e-3 dm leave 1e-4.
    assert difference.mean() < 1e-5 and (difference > 1e-3).float().mean() < 1e-4
    assert ((expected - surface[1]).abs() > 0.1).float().mean() > 0.1


class Blend(nn.Module):
    """A stand-in for the de-retouching network: a fixed layer, and what it sees of the photo."""

    def __init__(self):
        super().__init__()
        self.layer = rand(1, 3, 512, 512, seed=8)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (0.5 * self.layer + 0.25 * (pictures + 1)).clamp(0, 1)


def test_de_retouching(official):
    albedo, texture = rand(2, 3, 256, 256), picture(2, 256, 256, seed=9)
    module = official.retouch.DeRetouchingModule.__new__(official.retouch.DeRetouchingModule)
    module.retouching_network = Blend()
    expected = module.run(albedo, (texture - 0.5) * 2)
    assert (expected - albedo).abs().mean() > 0.01
    assert_close(de_retouch(Blend(), albedo, texture), expected, atol=1e-5, rtol=1e-5)


class Guess(nn.Module):
    """A stand-in for the recognition network: fixed coefficients, and a little of the picture."""

    def __init__(self, coefficients: torch.Tensor):
        super().__init__()
        self.coefficients = coefficients

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.coefficients + 0.01 * pictures.mean((1, 2, 3))[:, None]


def detail_network(inputs: int, outputs: int, seed: int) -> nn.Module:
    """A stand-in for a generator: one smooth filter of all its inputs."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 7, padding=3, padding_mode="reflect"), nn.Tanh()).eval()


@pytest.fixture(scope="module")
def runs(official, pack, coefficients) -> SimpleNamespace:
    """One face through the published model and through ours, with the same small networks."""
    networks = SimpleNamespace(
        recon=Guess(coefficients[:1]), de_retouch=Blend(), mid=detail_network(6, 3, 1), high=detail_network(9, 1, 2)
    )
    gains = torch.tensor([0.5]), torch.tensor([0.3])
    assets = stages.Assets(**(vars(pack.assets) | {"alpha": gains[0], "beta": gains[1]}))
    image, large = picture(1, 224, 224, seed=11), picture(1, 512, 512, seed=11)
    skin = F.interpolate(rand(1, 1, 12, 12, seed=12), (224, 224), mode="bilinear")
    target = picture(1, 224, 224, seed=13)
    theirs = whole_model(official, pack.face, networks, pack.assets.uv, gains)
    with torch.inference_mode():
        coarse = stages.coarse_shape(networks, assets, image)
        detailed = stages.detailed_shape(networks, assets, coarse, large, skin)
        texture = stages.texture(assets, coarse, detailed, target).texture
    with torch.no_grad():
        theirs.set_input_base({"imgs": image, "imgs_hd": large, "face_mask": skin})
        base = theirs.predict_results_base()
        smoothed = theirs.smooth_valid_mask(base["tex_valid_mask"])[:, None].view(1, 1, 256, 256)
        inputs = {**base, "tex_valid_mask": smoothed, "input_img_for_tex": target, "gt_lm": torch.zeros(1, 68, 2)}
        theirs.set_input_hrn(inputs)
        theirs.forward(visualize=False)  # without the smoothing, done above, the fit, done below, and the turntable
    return SimpleNamespace(
        official=official,
        theirs=theirs,
        base=base,
        coarse=coarse,
        detailed=detailed,
        target=target,
        texture=texture,
        assets=assets,
    )


def test_whole_base(runs):
    base, detailed = runs.base, runs.detailed
    assert_close(runs.coarse.coefficients, base["coeffs"], atol=1e-6, rtol=0)
    assert_close(runs.coarse.pose.apply(runs.coarse.shape), base["vertices"], atol=2e-6, rtol=0)
    position = runs.assets.grid.interpolate(runs.coarse.shape)
    assert_close(position, base["position_map"], atol=2e-6, rtol=0)
    difference = (detailed.albedo - base["de_retouched_albedo_map"]).abs()
    assert difference.mean() < 1e-4 and (difference > 2e-3).float().mean() < 3e-3  # jumps of the unwrap


def test_whole_mid_and_high(runs):
    theirs, detailed = runs.theirs, runs.detailed
    assert theirs.deformation_map.abs().max() > 5e-3 and theirs.displacement_map.abs().max() > 5e-3
    assert_close(detailed.deformation, theirs.deformation_map, atol=1e-5, rtol=0)
    assert_close(to_camera(detailed.vertices), theirs.pred_vertex, atol=1e-5, rtol=0)
    difference = (detailed.displacement - theirs.displacement_map).abs()
    assert difference.mean() < 1e-6 and difference.max() < 3e-4


def test_whole_colour(runs):
    light = Coefficients.split(runs.coarse.coefficients).light
    colour = shade(runs.detailed.normals.flatten(2), light).view_as(runs.detailed.albedo) * runs.detailed.albedo
    difference = (colour - runs.theirs.pred_color_high).abs() * 255
    assert difference.mean() < 0.08 and difference.flatten().quantile(0.999) < 1.5  # grey levels, as the golden case


def test_render(runs):
    """The sparse map against the published renderer, on the published vertices."""
    theirs, colour = runs.theirs, picture(1, 256, 256, seed=14)
    triangles = theirs.facemodel_front.face_buf
    mask, _, expected = theirs.renderer.render_uv_texture(theirs.pred_vertex, triangles, theirs.bfm_UVs.clone(), colour)
    rendering = rendering_of(theirs.pred_vertex[0], triangles, theirs.bfm_UVs)
    covered = mask.flatten().nonzero().squeeze(1)
    both = torch.isin(rendering.pixels, covered)
    assert len(covered) > 5000 and (~both).sum() <= 3 and both.sum() >= len(covered) - 3  # centres on an edge
    taps = colour[0].flatten(1).T[rendering.texels] * rendering.weights[..., None]
    difference = (taps.sum(1) - expected[0].flatten(1).T[rendering.pixels])[both].abs()
    assert difference.mean() < 2e-5 and (difference > 1e-2).float().mean() < 1e-3


@pytest.mark.parametrize("steps", [1, 25])
def test_fit(runs, steps):
    theirs = runs.theirs
    expected = fitted(theirs, runs.official, theirs.pred_color_high, theirs.pred_vertex, runs.target, steps)[0]
    rendering = rendering_of(theirs.pred_vertex[0], theirs.facemodel_front.face_buf, theirs.bfm_UVs)
    found = fit_texture(theirs.pred_color_high[0], runs.target[0], rendering, steps)
    moved = (expected - theirs.pred_color_high[0]).abs()
    assert moved.max() > 0.009 * min(steps, 10)
    difference = (found - expected).abs() * 255
    assert difference.mean() < 0.08 and difference.flatten().quantile(0.99) < 0.7


def test_output_normals(official, pack, coefficients):
    vertices = pack.assets.morphable.shape(Coefficients.split(coefficients))[0].clone()
    vertices[pack.assets.morphable.triangles[5]] = vertices[0].clone()  # triangles without area, and some round them
    expected = official.utils.estimate_normals(vertices.numpy(), pack.face.face_buf.numpy())
    found = output_normals(vertices, pack.assets.morphable.triangles)
    assert_close(found, torch.from_numpy(expected), atol=2e-5, rtol=0)

"""A texture made of the face's own skin: things are laid over the example photo, and must not come out as skin."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hrn_opt.builtin.regions import REGION_PX
from hrn_opt.builtin.skin import skin_map
from hrn_opt.types import Photo
from tests.builtin.occluders import BEARD, LEFT_CHEEK, LEFT_LENS, MASK, RIGHT_LENS

SIZE = 512


@pytest.fixture(scope="module")
def points_xy(builtin, photo):
    return builtin.find(photo)[0].points[:, :2].numpy()


@pytest.fixture(scope="module")
def laid_over(photo, points_xy):
    """Makes the example photo with polygons through face points drawn over it."""

    def lay(colour, *outlines, line_px=None):
        picture = Image.fromarray(photo.rgb)
        draw = ImageDraw.Draw(picture)
        for outline in outlines:
            corners = [tuple(points_xy[point]) for point in outline]
            if line_px:
                draw.line([*corners, corners[0]], fill=colour, width=line_px, joint="curve")
            else:
                draw.polygon(corners, fill=colour)
        return Photo(np.asarray(picture).copy())

    return lay


@pytest.fixture(scope="module")
def made(builtin, reconstructor, photo):
    """Makes the reconstruction of a picture of the example's face, where that face is in the example."""

    def make(picture):
        return reconstructor.reconstruct(picture, faces=builtin.find(photo), texture_size=SIZE)

    return make


@pytest.fixture(scope="module")
def interior(builtin):
    return builtin.layout.uv.covered.numpy()


def keys(result):
    return [advice.key for advice in result.advice]


def region(maps):
    """(512, 512) bool of a (128, 128) map."""
    return maps.numpy().repeat(SIZE // REGION_PX, 0).repeat(SIZE // REGION_PX, 1)


@pytest.mark.parametrize("colour", [(150, 188, 222), (90, 160, 110), (245, 245, 245)])
def test_a_mask_is_told_of_and_its_colour_is_nowhere(laid_over, made, interior, base, colour):
    result = made(laid_over(colour, MASK))
    assert keys(result) == ["FaceCovered"]
    near_colour = np.abs(result.texture.rgb.astype(int) - colour).max(2) < 25
    assert (near_colour & interior).mean() < 1e-3  # measured at most 2e-5; 0.35 where the mask counts as skin
    eyes = interior & (result.texture.visibility > 250) & (base.texture.visibility > 250)
    assert eyes.mean() > 0.05
    # The mask moves the points, and so the texture, by a few millimetres: measured 9 levels at most.
    assert np.abs(result.texture.rgb.astype(int) - base.texture.rgb)[eyes].mean() < 12


@pytest.mark.parametrize("colour", [(52, 38, 30), (30, 60, 190), (210, 30, 40)])
def test_what_hangs_over_one_cheek_does_not_come_out_on_either(laid_over, made, builtin, base, colour):
    """Dark hair, a flag: the covered cheek gets the colour of the bare one."""
    result = made(laid_over(colour, LEFT_CHEEK))
    regions = builtin.layout.regions
    cheeks = region(regions.middle & ~regions.any_feature & ~regions.glasses & ~regions.beard)
    covered, bare = cheeks.copy(), cheeks.copy()
    covered[:, 170:] = False
    bare[:, :342] = False
    rgb = result.texture.rgb.astype(int)
    covered_rgb, bare_rgb, true_rgb = rgb[covered].mean(0), rgb[bare].mean(0), base.texture.rgb[bare].mean(0)
    # Measured 11, 11 and 15; the covered cheek is 40 levels lighter than the bare one, as the light comes from there.
    assert np.abs(covered_rgb - bare_rgb).max() < 17
    assert np.abs(bare_rgb - true_rgb).max() < 5
    assert (result.texture.visibility[covered] > 128).mean() < 0.1


def test_dark_glasses_are_told_of(laid_over, made, interior):
    result = made(laid_over((12, 12, 14), LEFT_LENS, RIGHT_LENS))
    assert keys(result) == ["FaceCovered"]
    black = result.texture.rgb.max(2) < 40
    assert (black & interior).mean() < 7e-3  # where brows are, it stays; 0.06 with the glasses


def test_the_frames_of_clear_glasses_stay(laid_over, made, interior):
    picture = laid_over((20, 18, 18), LEFT_LENS, RIGHT_LENS, line_px=2)
    result = made(picture)
    assert keys(result) == []
    dark = (result.texture.rgb.max(2) < 70) & interior
    without = (made(laid_over((20, 18, 18))).texture.rgb.max(2) < 70) & interior
    assert dark.sum() > without.sum() + 2000


def test_a_beard_stays(laid_over, made, builtin, photo):
    noise = np.random.default_rng(0).normal(0, 9, photo.rgb.shape[:2])[..., None]
    bearded = laid_over((255, 0, 255), BEARD).rgb
    drawn = (bearded == (255, 0, 255)).all(2)
    rgb = np.where(drawn[..., None], np.clip(np.array((58, 42, 34)) + noise, 0, 255), photo.rgb).astype(np.uint8)
    result = made(Photo(rgb))
    chin = region(builtin.layout.regions.front_beard & ~builtin.layout.regions.any_feature)
    brightness = result.texture.rgb[chin].mean()
    assert brightness < 90  # 150 and more where it is replaced by skin


def test_a_shadow_beside_the_nose_stays(laid_over, made, photo, builtin):
    shadow = (laid_over((255, 0, 255), (6, 197, 5, 4, 129, 203, 101, 118, 128)).rgb == (255, 0, 255)).all(2)
    rgb = np.where(shadow[..., None], photo.rgb * 0.6, photo.rgb).astype(np.uint8)
    lit, shaded = made(photo), made(Photo(rgb))
    assert keys(shaded) == []
    darker = lit.texture.rgb.mean(2) - shaded.texture.rgb.mean(2)
    assert (darker > 30).mean() > 0.5 * shadow_share(builtin, photo, shadow)


def shadow_share(builtin, photo, shadow):
    """Of the texels, those that the photo shows within the shadow."""
    from hrn_opt.builtin.shape import fit_shape

    shape = fit_shape(builtin.face_mesh, builtin.find(photo)[0].points)
    x, y = builtin.layout.uv.interpolate(shape.camera.project(shape.mesh.vertices)[:, :2]).long().numpy()
    inside = builtin.layout.uv.covered.numpy()
    return (shadow[y.clip(0, 511), x.clip(0, 511)] & inside).mean()


def test_burnt_out_skin_is_filled_and_told_of(laid_over, made, interior):
    result = made(laid_over((255, 255, 255), (117, 118, 119, 120, 101, 36, 205, 187, 123), (10, 338, 337, 9, 108, 109)))
    assert keys(result) == ["PhotoBright"]
    assert ((result.texture.rgb.min(2) > 245) & interior).mean() < 2e-3


def test_the_example_is_skin_but_for_its_fringe(base, builtin):
    regions = builtin.layout.regions
    visibility = base.texture.visibility
    assert (visibility[region(regions.features[1:3].any(0))] > 200).mean() > 0.9
    assert (visibility[region(regions.patches[:6].any(0))] > 200).mean() > 0.9
    assert base.advice == ()
    forehead = base.texture.rgb[60:90, 200:312].mean((0, 1))  # under the fringe
    cheek = base.texture.rgb[region(regions.patches[4])].mean(0)
    assert np.abs(forehead - cheek).max() < 45 and forehead.mean() > 110  # hair: 84


def test_a_face_of_one_colour_is_all_its_own(builtin):
    regions = builtin.layout.regions
    rgb = torch.tensor([180.0, 140, 120])[:, None, None].expand(3, REGION_PX, REGION_PX)
    normals = torch.tensor([0.0, 0, 1])[:, None, None].expand(3, REGION_PX, REGION_PX)
    found = skin_map(rgb, normals, regions.covered, regions)
    assert (found.own[regions.middle] > 0.99).all()
    assert found.covered_share < 0.01 and found.clipped_share == 0


def test_nothing_in_sight_is_no_error(builtin):
    regions = builtin.layout.regions
    found = skin_map(
        torch.zeros(3, REGION_PX, REGION_PX), torch.zeros(3, REGION_PX, REGION_PX), regions.covered & False, regions
    )
    assert found.own.isfinite().all() and found.covered_share == 0

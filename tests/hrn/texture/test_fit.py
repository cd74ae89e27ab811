"""The texture fit against a plain renderer, autograd in float64 and torch's Adam."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.hrn.texture import fit
from hrn_opt.hrn.texture.fit import Rendering, fit_texture, rendering_of
from tests.hrn.texture.reference_render import render_reference, sample_wrapped

PX, UV_PX = 224, 256


def screen(camera: torch.Tensor) -> np.ndarray:
    """(N, 4) of pixel x, pixel y, OpenGL depth for planes at 5 and 15, distance; focal 1015 px, centre 112 px."""
    x, y, z = camera.double().unbind(1)
    depth = (15 + 5) / (15 - 5) - 2 * 15 * 5 / (15 - 5) / z
    return torch.stack([1015 * x / z + 112, 112 - 1015 * y / z, depth, z], 1).numpy()


class Sheet:
    """A bumpy sheet of 7 × 6 vertices that runs from 6.5 to 14 dm away, its u from beyond one edge to the other.

    A second sheet crosses it, so that some triangles hide others.
    """

    def __init__(self, seed: int = 0):
        random = torch.Generator().manual_seed(seed)
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 6), indexing="ij")
        z = 10.2 + 3.4 * columns + 0.3 * torch.rand(7, 6, generator=random)
        jitter = 0.02 * torch.randn(2, 7, 6, generator=random)
        first = torch.stack([0.095 * z * columns + jitter[0], 0.085 * z * rows + jitter[1], z], -1).view(-1, 3)
        second = first * torch.tensor([0.5, 0.6, 1.0]) + torch.tensor([0.1, 0.05, 0.0])
        second[:, 2] = 10 + 2 * rows.flatten()
        index = torch.arange(42).view(7, 6)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        faces = torch.cat([torch.stack(corners, -1).view(-1, 3) for corners in ((a, c, b), (b, c, d))])
        self.camera = torch.cat([first, second])
        self.triangles = torch.cat([faces, faces + 42])
        uv = torch.stack([(columns + 1) / 2, (rows + 1) / 2], -1).view(-1, 2)
        self.uv = torch.cat([uv, uv * 0.3 + 0.2])  # the first covers 0 to 1, where the texture wraps

    def rendering(self) -> Rendering:
        return rendering_of(self.camera, self.triangles, self.uv)

    def seen(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Flat numbers (P,) of the covered pixels and their UV (P, 2) float64, v up, by the plain renderer."""
        seen = render_reference(screen(self.camera), self.triangles.numpy(), PX)
        pixels = np.flatnonzero(seen.triangle >= 0)
        corners = self.triangles.numpy()[seen.triangle.ravel()[pixels]]
        uv = (seen.weights.reshape(-1, 3)[pixels][..., None] * self.uv.double().numpy()[corners]).sum(1)
        return torch.from_numpy(pixels), torch.from_numpy(uv)


@pytest.fixture(scope="module")
def sheet() -> Sheet:
    return Sheet()


def pictures(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A texture and a target."""
    random = torch.Generator().manual_seed(seed)
    return torch.rand(3, UV_PX, UV_PX, generator=random), torch.rand(3, PX, PX, generator=random)


def applied(rendering: Rendering, texture: torch.Tensor) -> torch.Tensor:
    """(P, 3) of a texture (3, 256, 256)."""
    taps = texture.flatten(1).T.double()[rendering.texels]  # (P, 4, 3)
    return (taps * rendering.weights[..., None]).sum(1)


def test_sparse_map_renders_as_the_plain_renderer(sheet):
    """Random texels, so that a place 0.01 texels off would show; a linear blend on the screen is off by several."""
    rendering, (pixels, uv) = sheet.rendering(), sheet.seen()
    assert torch.equal(rendering.pixels, pixels) and len(pixels) > 10_000
    texture, _ = pictures()
    expected = sample_wrapped(texture.permute(1, 2, 0).double(), uv[:, 0], 1 - uv[:, 1])
    assert_close(applied(rendering, texture), expected, atol=3e-3, rtol=0)  # float32 barycentrics: 1e-3 texels
    assert_close(rendering.weights.sum(1), torch.ones(len(pixels)), atol=1e-6, rtol=0)


def test_perspective_matters_here(sheet):
    """The case tells: without the division by depth the map would be off by texels."""
    rendering = sheet.rendering()
    seen = fit.rasterize(fit._screen(sheet.camera), sheet.triangles, (PX, PX))
    corners = sheet.triangles[seen.triangle.flatten()[rendering.pixels]]
    flat = (seen.barycentric.view(-1, 3)[rendering.pixels][..., None] * sheet.uv[corners]).sum(1)
    _, uv = sheet.seen()
    assert (flat - uv).abs().max() * UV_PX > 1


def test_texture_repeats_at_its_borders(sheet):
    columns = sheet.rendering().texels % UV_PX
    rows = sheet.rendering().texels // UV_PX
    for places in (columns, rows):
        both = (places == 0).any(1) & (places == UV_PX - 1).any(1)
        assert both.any() and ((places >= 0) & (places < UV_PX)).all()


@pytest.mark.parametrize(("distance", "shown"), [(4.9, False), (5.1, True), (14.9, True), (15.1, False)])
def test_only_what_lies_between_the_planes_is_rendered(distance, shown):
    camera = torch.tensor([[-0.1, -0.1, distance], [0.2, -0.1, distance], [0.0, 0.3, distance]])
    rendering = rendering_of(camera, torch.tensor([[0, 1, 2]]), torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]))
    assert (len(rendering.pixels) > 0) == shown


def written_loss(offset, colour, target, pixels, uv):
    """1.92 · mean √(1e-6 + |render − target|²) + 10 · 2 · (mean square of steps down + of steps across), float64."""
    texture = (colour + offset).permute(1, 2, 0)
    rendered = sample_wrapped(texture, uv[:, 0], 1 - uv[:, 1])
    missing = rendered - target.flatten(1).T[pixels]
    photo = (1e-6 + missing.square().sum(1)).sqrt().mean()
    down, across = offset[:, 1:] - offset[:, :-1], offset[:, :, 1:] - offset[:, :, :-1]
    return 1.92 * photo + 10 * 2 * (down.square().mean() + across.square().mean())


def test_fit_equals_autograd_and_torch_s_adam(sheet):
    colour, target = pictures()
    pixels, uv = sheet.seen()
    offset = torch.zeros(3, UV_PX, UV_PX, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([offset], lr=1e-2)
    steps = 15
    for _ in range(steps):
        adam.zero_grad()
        written_loss(offset, colour.double(), target.double(), pixels, uv).backward()
        adam.step()
    found = fit_texture(colour, target, sheet.rendering(), steps=steps)
    difference = (found - (colour + offset.detach())).abs()
    # Adam's first steps have unit length whatever the gradient: where terms cancel, rounding turns one now and then.
    assert difference.mean() < 1e-4 and (difference > 1e-3).float().mean() < 2e-3
    assert offset.detach().abs().max() > 0.05
    untouched = offset.detach() == 0
    assert untouched.any() and torch.equal(found[untouched], colour[untouched])


def test_smoothness_gradient_equals_autograd_s():
    offset = torch.randn(3, UV_PX, UV_PX, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    offset.requires_grad = True
    down, across = offset[:, 1:] - offset[:, :-1], offset[:, :, 1:] - offset[:, :, :-1]
    (10 * 2 * (down.square().mean() + across.square().mean())).backward()
    flat = offset.detach().float().flatten(1).T.contiguous()
    found = torch.full_like(flat, 0.5)
    fit._add_smoothness(found, flat, fit._neighbour_counts(flat))
    gradient = (found - 0.5).T.view(3, UV_PX, UV_PX) * fit._SMOOTHNESS_GAIN
    assert_close(gradient, offset.grad.float(), atol=5e-10, rtol=1e-5)  # values about 1e-3


def test_photo_gradient_goes_back_through_the_same_map(sheet):
    """The transpose against the scattered sum: every pixel's residue onto its four texels."""
    rendering = sheet.rendering()
    residue = torch.randn(len(rendering.pixels), 3, generator=torch.Generator().manual_seed(3))
    expected = torch.zeros(UV_PX * UV_PX, 3, dtype=torch.float64)
    spread = residue.double()[:, None] * rendering.weights[..., None]
    expected.index_add_(0, rendering.texels.flatten(), spread.flatten(0, 1))
    _, to_texels = fit._maps(rendering)
    expected *= 1.92 / len(rendering.pixels)
    assert_close(to_texels(residue) * fit._SMOOTHNESS_GAIN, expected.float(), atol=1e-9, rtol=1e-4)


def test_adam_step_equals_torch_s():
    random = torch.Generator().manual_seed(4)
    start = torch.randn(50, 3, generator=random)
    values, first, second, count = start.clone(), torch.zeros(50, 3), torch.zeros(50, 3), torch.zeros(())
    theirs = start.double().requires_grad_()
    adam = torch.optim.Adam([theirs], lr=1e-2)
    for _ in range(20):
        gradient = torch.randn(50, 3, generator=random) * torch.logspace(-6, 0, 50)[:, None]
        theirs.grad = gradient.double()
        adam.step()
        fit._adam_step(values, gradient / fit._SMOOTHNESS_GAIN, first, second, count)
    assert_close(values, theirs.detach().float(), atol=1e-5, rtol=0)


def test_what_the_photo_shows_outside_the_face_does_not_matter(sheet):
    colour, target = pictures()
    rendering = sheet.rendering()
    outside = torch.ones(PX * PX, dtype=torch.bool)
    outside[rendering.pixels] = False
    other = target.clone().flatten(1)
    other[:, outside] = 1 - other[:, outside]
    found = fit_texture(colour, target, rendering, steps=3)
    assert torch.equal(fit_texture(colour, other.view_as(target), rendering, steps=3), found)


def test_smoothness_carries_the_fit_one_texel_a_step():
    """One small triangle in the middle: far texels keep their colour to the bit, near ones move with it."""
    camera = torch.tensor([[-0.05, -0.05, 10.0], [0.06, -0.05, 10.0], [0.0, 0.07, 10.0]])
    uv = torch.tensor([[0.48, 0.48], [0.52, 0.48], [0.5, 0.52]])
    rendering = rendering_of(camera, torch.tensor([[0, 1, 2]]), uv)
    colour, target = pictures()
    for steps in (1, 4):
        found = fit_texture(colour, target, rendering, steps=steps)
        rows, columns = (found != colour).any(0).nonzero().unbind(1)
        used = rendering.texels[rendering.weights > 0]
        low, high = (used // UV_PX).min() - (steps - 1), (used // UV_PX).max() + (steps - 1)
        left, right = (used % UV_PX).min() - (steps - 1), (used % UV_PX).max() + (steps - 1)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (low, high, left, right)


def test_a_face_outside_the_crop_leaves_the_texture_alone():
    camera = torch.tensor([[5.0, 5.0, 10.0], [6.0, 5.0, 10.0], [5.0, 6.0, 10.0]])
    colour, target = pictures()
    rendering = rendering_of(camera, torch.tensor([[0, 1, 2]]), torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]))
    assert len(rendering.pixels) == 0
    assert torch.equal(fit_texture(colour, target, rendering, steps=2), colour)

"""De-retouching against the blend's formula in float64."""

import numpy as np
import torch
from torch import nn
from torch.testing import assert_close

from hrn_opt.hrn.texture.retouch import de_retouch


class Recorder(nn.Module):
    """Answers with a fixed layer, and keeps what it was asked."""

    def __init__(self, layer: torch.Tensor):
        super().__init__()
        self.layer = layer
        self.asked = None

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.asked = pictures
        return self.layer.expand(len(pictures), 3, 512, 512)


def maps(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(seed))


def test_equals_the_soft_light_formula():
    layer = torch.rand(2, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    albedo, texture = maps(1), maps(2) * 1.2 - 0.1  # unwrapped photos stay in 0..1, albedo need not
    found = de_retouch(Recorder(layer), albedo, texture)
    # Halving bilinearly takes the mean of each 2 × 2.
    blend = layer.double().numpy().reshape(2, 3, 256, 2, 256, 2).mean((3, 5))
    seen = texture.double().numpy()
    retouched = (1 - 2 * blend) * seen**2 + 2 * blend * seen
    with np.errstate(divide="ignore"):
        softening = 1 / (1e6 * retouched**3 + 1e-6)
    expected = albedo.double().numpy() * (seen + softening) / (retouched + softening)
    calm = np.abs(retouched) > 0.02  # below, the quotient passes through a pole
    assert calm.mean() > 0.9
    np.testing.assert_allclose(found.numpy()[calm], expected[calm], rtol=1e-4, atol=1e-5)


def test_softening_where_the_photo_is_dark():
    """At 0.005 the plain quotient would brighten the albedo 200 times; the softening holds it."""
    texture = torch.full((1, 3, 256, 256), 0.005)
    found = de_retouch(Recorder(torch.zeros(1)), torch.full_like(texture, 0.6), texture)
    retouched = 0.005**2
    softening = 1 / (1e6 * retouched**3 + 1e-6)
    expected = 0.6 * (0.005 + softening) / (retouched + softening)
    assert_close(found, torch.full_like(found, expected), rtol=1e-5, atol=0)
    assert abs(expected - 0.6) < 1e-4


def test_a_neutral_layer_and_a_black_photo_change_nothing():
    albedo = maps(3)
    assert_close(de_retouch(Recorder(torch.full((1,), 0.5)), albedo, maps(4)), albedo, rtol=1e-5, atol=1e-5)
    black = torch.zeros(2, 3, 256, 256)
    assert_close(de_retouch(Recorder(torch.full((1,), 0.3)), albedo, black), albedo)


def test_the_network_sees_the_texture_doubled_in_size_and_signed():
    recorder, texture = Recorder(torch.full((1,), 0.5)), maps(5)
    de_retouch(recorder, maps(6), texture)
    signed = texture.double().numpy() * 2 - 1
    for axis in (2, 3):  # between texel centres: 3/4 of the nearer, 1/4 of the farther, held at the border
        before = np.concatenate([signed.take([0], axis), signed.take(range(signed.shape[axis] - 1), axis)], axis)
        after = np.concatenate([signed.take(range(1, signed.shape[axis]), axis), signed.take([-1], axis)], axis)
        pairs = np.stack([0.75 * signed + 0.25 * before, 0.75 * signed + 0.25 * after], axis + 1)
        signed = pairs.reshape([*signed.shape[:axis], -1, *signed.shape[axis + 1 :]])
    assert recorder.asked.shape == (2, 3, 512, 512)
    np.testing.assert_allclose(recorder.asked.numpy(), signed, atol=1e-6)

"""De-retouching: the skin's fine pattern, which albedo models smooth away, brought back from the photo.

Source: official models/de_retouching_module.py; the "soft light" blend that retouching tools use, inverted.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hrn_opt.hrn.frames import RETOUCH_PX, UV_PX


def de_retouch(network: nn.Module, albedo: Tensor, texture: Tensor) -> Tensor:
    """(B, 3, 256, 256) albedo with the skin's own pattern.

    albedo, texture: (B, 3, 256, 256) RGB about 0..1.
    network: (B, 3, 512, 512) in -1..1 → blend layer 0..1.
    """
    signed = (texture - 0.5) * 2
    blend = network(F.interpolate(signed, (RETOUCH_PX, RETOUCH_PX), mode="bilinear"))
    blend = F.interpolate(blend, (UV_PX, UV_PX), mode="bilinear")
    photo = (signed + 1) / 2
    retouched = (1 - 2 * blend) * photo * photo + 2 * blend * photo
    softening = 1 / (1e6 * retouched**3 + 1e-6)  # keeps the ratio finite where the photo is black
    return albedo * ((photo + softening) / (retouched + softening))

"""Which texels show the face's own skin: not hair, background, cloth, glass, a hand, or skin burnt out to white.

No network: the colours of the face itself say it. Patches of its middle agree on what its skin looks like; a smooth
model of skin under the photo's light is fitted to them robustly; what differs from it, over an area and up to an edge
of the photo, is not skin. Nor is what lies beyond such an area, towards the outline. Hair and background come in from
the outline; darker areas that do not are shadows, and skin. Eyes, brows, mouth and nostrils differ from skin by nature:
they are the face's own unless what surrounds them is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.regions import REGION_PX, FaceRegions
from hrn_opt.geometry.projection import fade
from hrn_opt.geometry.uv import blur, erode, push_pull

# Colours are compared as logarithms, in which light multiplies nothing but adds; the offset keeps noise in the dark
# from counting as colour.
_LOG_OFFSET = 16.0
# How far skin may differ from the model, as standard deviations of those logarithms: pores, spots, shadows and shine
# change the brightness, little else the colour.
_BRIGHTNESS_SPREAD = 0.40
_COLOUR_SPREAD = 0.14
# Away from the outline shadows are allowed for: darker, and redder, as light that has passed through skin.
_SHADOW_SPREAD, _SHADOW_COLOUR_SPREAD = 0.90, 0.22
_LEAST_COLOUR_KEPT = 0.4
_FIT_ROUNDS = 7
_FIT_STRIDE = 2  # of the texels
_OUTLIER = 2.0  # squared deviations from which a texel has no say in the model
_HALF_LIKELY = 1.2  # squared deviations at which skin is as likely as not
# Brightness may change with the light's direction and over the face, colour a little with the light's direction only:
# a mask's colour must not be explained by light.
_BRIGHTNESS_RIDGE = (0.0, 0.02, 0.02, 0.02, 0.06, 0.06, 0.06, 0.06, 0.06, 0.02, 0.02, 0.04, 0.04)
_COLOUR_RIDGE = (0.0, 0.16, 0.16)

_PATCH_TEXELS = 6  # in sight, that a patch needs
_PATCH_COLOUR_SPREAD, _PATCH_BRIGHTNESS_SPREAD = 0.14, 0.45
_PATCHES_AGREE = 4.0  # squared deviations
# Skin of any tone, in most light, has at least as much red as green, and not much less green than blue. Things of
# other colours need as many times more patches to be taken for skin; under coloured light all patches are alike.
_UNLIKELY_SKIN = 0.2
_LEAST_RED_OVER_GREEN, _LEAST_GREEN_OVER_BLUE = 0.0, -0.12

_SATURATED, _SATURATED_LOSS = 250, 0.8  # the brightest channel has lost its level there, and with it the colour

# Beards are darker than skin, or white and then rough (two white beards were 1.7 times as rough as the cheeks, a hand
# 0.5 times), and not much bluer, greener or more colourful; the darker, the less colour says.
_HAIR_COLDNESS, _HAIR_GREENNESS, _HAIR_COLOUR = 0.45, 0.1, 0.35
_EYE_COLOUR = 1.0  # off skin's, more than any iris
_BROW_TOLERANCE, _BROW_LIGHTER = 1.25, 0.2  # grey brows on red skin; fair ones are hardly lighter than skin
_BEARD_ROUGHNESS = 1.4
_BEARDED_SHARE = 0.3  # of each side of the front, from which the jaw's sides may be bearded too
_BEARD_DEVIATION = 0.3

_EDGE_RADIUS_TEXELS = 3
_EDGE_VARIANCE = 0.02  # of log brightness, above which an edge is followed
_FLOOD_PX = 64
_REACHABLE = 0.45
_RIM_TEXELS, _RIM_SOFTNESS_TEXELS, _BROW_SOFTNESS_TEXELS = 3, 1, 1
_FRAME_TEXELS = 3  # half a frame's width: clear glasses are part of the face, and look right only as a whole
_SKIN_FADE = (0.3, 0.6)
_FEATURE_COVERED_FADE = (0.4, 0.55)  # share of skin in the ring round a feature
_BROW_COVERED_FADE = (0.15, 0.35)  # the same, next to a brow, which lies over a shadowed socket
# Eyes, closed ones too, have at least this between their tones, as logarithms: 0.18 to 1.0 on 50 photos; behind dark
# glass it was 0.07 to 0.14.
_EYE_QUANTILES, _EYE_CONTRAST = (0.1, 0.5, 0.9), 0.16
_CLIPPED_FADE = (244.0, 252.0)  # of the second brightest channel
_LEAST_SKIN = 0.1  # of what is in sight; with less, the model has failed and all is taken as it is


@dataclass(frozen=True)
class SkinMap:
    """What the photo shows of the face's own surface.

    own: (128, 128) float32 in 0..1, how far a texel shows skin or a feature of the face.
    covered_share: how much of the face's middle, where it is in sight, something else covers, 0..1.
    clipped_share: how much of it is burnt out to white, 0..1.
    """

    own: Tensor
    covered_share: float
    clipped_share: float


@dataclass(frozen=True)
class Difference:
    """How a photo differs from bare skin under its light, as logarithms.

    lighter: (...) brightness.
    stained: (3, ...) RGB of colour, which sums to 0.
    """

    lighter: Tensor
    stained: Tensor

    def squared(self, dark_spread: float = _BRIGHTNESS_SPREAD, dark_colour_spread: float = _COLOUR_SPREAD) -> Tensor:
        """(...) in squared standard deviations.

        dark_spread, dark_colour_spread: of what is darker than skin.
        """
        spread = torch.where(self.lighter < 0, dark_spread, _BRIGHTNESS_SPREAD)
        colour_spread = torch.where(self.lighter < 0, dark_colour_spread, _COLOUR_SPREAD)
        return (self.lighter / spread) ** 2 + self.stained.square().sum(0) / colour_spread**2

    def is_hair_coloured(self, tolerance: float = 1.0) -> Tensor:
        """(...) bool: not much bluer, greener or more colourful than skin; the darker, the less colour says."""
        most = tolerance * (1 - self.lighter).clamp(min=1)
        red, green, blue = self.stained.unbind()
        strength: Tensor = self.stained.norm(dim=0)
        return (
            (blue - red < _HAIR_COLDNESS * most)
            & (green - (red + blue) / 2 < _HAIR_GREENNESS * most)
            & (strength < _HAIR_COLOUR * most)
        )


def skin_map(rgb: Tensor, normals: Tensor, in_sight: Tensor, regions: FaceRegions) -> SkinMap:
    """The map of one face.

    rgb: (3, 128, 128) float32, the photo's colours at each texel, 0..255.
    normals: (3, 128, 128) float32 unit normals as the camera sees them.
    in_sight: (128, 128) bool, texels that the photo shows, hidden by no other part of the face.
    """
    in_sight = in_sight & regions.covered
    clipped = fade(rgb.sort(0).values[1], *_CLIPPED_FADE) * ~regions.any_feature
    log_rgb = (rgb.clamp(0, 255) + _LOG_OFFSET).log()
    own, uncovered = _own_surface(log_rgb, normals, in_sight, clipped, rgb.amax(0) >= _SATURATED, regions)
    shown = torch.where(regions.any_feature, own, torch.maximum(uncovered, clipped))
    middle = in_sight & regions.middle
    share = [float(part[middle].mean()) if middle.any() else 0.0 for part in (1 - shown, clipped)]
    return SkinMap(own, covered_share=share[0], clipped_share=share[1])


def _own_surface(
    log_rgb: Tensor, normals: Tensor, in_sight: Tensor, clipped: Tensor, saturated: Tensor, regions: FaceRegions
) -> tuple[Tensor, Tensor]:
    """Two of (128, 128) in 0..1: what is the face's own and lit, and what nothing covers, in shadow or not."""
    bare = in_sight & ~regions.any_feature
    core = _core(log_rgb, in_sight & (clipped == 0), saturated, regions)
    difference = _difference(log_rgb, normals, bare & (clipped == 0), core)
    guide = log_rgb.mean(0)
    beard = _beard(difference, _rough(guide, core & bare), bare, regions)
    strict, lenient = difference.squared(), difference.squared(_SHADOW_SPREAD, _SHADOW_COLOUR_SPREAD)
    likely, uncovered = (
        _up_to_edges(1 / (1 + (off.masked_fill(beard, _BEARD_DEVIATION) / _HALF_LIKELY) ** 2), guide, bare)
        for off in (strict, lenient)
    )
    outside = _flooded(regions.rim & (likely < 0.5), (likely < 0.5) & bare)
    likely = torch.where(outside, torch.minimum(likely, uncovered), uncovered)
    eyes_show = [_looks(guide[opening & regions.covered]) for opening in regions.eyes]
    likely = torch.where(_per_half(regions.glasses, eyes_show), _closed(likely, bare, _FRAME_TEXELS), likely)
    passable = (likely > _REACHABLE) | regions.any_feature
    likely = likely * _flooded(core & bare & (likely > _REACHABLE), passable)
    uncovered = fade(uncovered, *_SKIN_FADE)
    own = _drawn_in(fade(likely, *_SKIN_FADE) * (1 - clipped), bare)
    brow_like = difference.is_hair_coloured(_BROW_TOLERANCE) & (difference.lighter < _BROW_LIGHTER)
    eye_like = difference.stained.norm(dim=0) < _EYE_COLOUR
    eyes = regions.features[1:3].any(0)
    own = _with_features(own, uncovered, eyes_show, torch.where(eyes, eye_like, brow_like), bare, regions)
    return (own if own[bare].sum() >= _LEAST_SKIN * bare.sum() else torch.ones_like(own)), uncovered


def _core(log_rgb: Tensor, in_sight: Tensor, saturated: Tensor, regions: FaceRegions) -> Tensor:
    """(128, 128) bool: the patches that agree with the one on which most agree."""
    shown = regions.patches & in_sight
    kept = shown.sum((1, 2)) >= _PATCH_TEXELS
    if not kept.any():
        return in_sight & regions.middle
    shown, weights = shown[kept], regions.patch_weights[kept]
    medians = torch.stack([log_rgb[:, patch].median(1).values for patch in shown])  # (P, 3)
    brightness = medians.mean(1, keepdim=True)
    colour = medians - brightness
    apart = (torch.cdist(colour, colour) / _PATCH_COLOUR_SPREAD) ** 2
    apart = apart + ((brightness - brightness.T) / _PATCH_BRIGHTNESS_SPREAD) ** 2
    red, green, blue = medians.unbind(1)
    skin_like = (red - green > _LEAST_RED_OVER_GREEN) & (green - blue > _LEAST_GREEN_OVER_BLUE)
    votes = (torch.exp(-apart / 2) * weights).sum(1) * torch.where(skin_like, 1.0, _UNLIKELY_SKIN)
    votes *= 1 - _SATURATED_LOSS * (shown & saturated).sum((1, 2)) / shown.sum((1, 2))
    return shown[apart[votes.argmax()] < _PATCHES_AGREE].any(0)


def _difference(log_rgb: Tensor, normals: Tensor, bare: Tensor, core: Tensor) -> Difference:
    """(128, 128) maps; the model of skin is fitted to bare (bool) texels, first to those of the core."""
    terms = _light_terms(normals)  # (13, 128, 128)
    brightness = log_rgb.mean(0, keepdim=True)
    colour = log_rgb - brightness
    every = slice(None, None, _FIT_STRIDE)
    sample = [x[:, every, every].flatten(1).T for x in (terms, terms[:3], brightness, colour)]
    weights = (core & bare)[every, every].flatten().float()
    weights = weights if weights.any() else bare[every, every].flatten().float()
    for _ in range(_FIT_ROUNDS):
        by_light = _ridge(sample[0], sample[2], weights, _BRIGHTNESS_RIDGE)  # (13, 1)
        by_colour = _ridge(sample[1], sample[3], weights, _COLOUR_RIDGE)  # (3, 3)
        off = Difference((sample[2] - sample[0] @ by_light)[:, 0], (sample[3] - sample[1] @ by_colour).T).squared()
        weights = bare[every, every].flatten() * (off < _OUTLIER) / (1 + off) ** 2
    lit = (sample[0] @ by_light)[weights > 0]  # the model tells nothing of light beyond what it was fitted to
    lowest, highest = (float(lit.min()), float(lit.max())) if len(lit) else (0.0, 0.0)
    lighter = (brightness - torch.tensordot(by_light.T, terms, 1).clamp(lowest, highest))[0]
    return Difference(lighter, _washed_out(colour, torch.tensordot(by_colour.T, terms[:3], 1), lighter))


def _washed_out(colour: Tensor, expected: Tensor, lighter: Tensor) -> Tensor:
    """(3, 128, 128) how the colour differs from what is expected, but for what bright light itself washes out of skin.

    A channel near its end stops first, so that bright skin keeps its hue and loses some of its colour; a white mask has
    none.
    """
    kept = ((colour * expected).sum(0) / expected.square().sum(0).clamp(min=1e-6)).clamp(max=1)
    washed = (lighter > 0) & (kept > _LEAST_COLOUR_KEPT)
    return torch.where(washed, colour - kept * expected, colour - expected)


def _light_terms(normals: Tensor) -> Tensor:
    """(13, 128, 128): what brightness may depend on: the first nine spherical harmonics (Ramamoorthi and Hanrahan
    2001) up to constants, and the place on the face; the first three are 1, x and y."""
    x, y, z = normals
    down, along = torch.meshgrid(torch.linspace(-1, 1, REGION_PX), torch.linspace(-1, 1, REGION_PX), indexing="ij")
    one = torch.ones_like(x)
    return torch.stack(
        [one, x, y, z - 0.8, x * x - 0.2, x * y, y * y - 0.2, x * z, y * z, along, down, along**2, down**2]
    )


def _ridge(terms: Tensor, values: Tensor, weights: Tensor, ridge: tuple[float, ...]) -> Tensor:
    """(T, C) weighted least squares of values (K, C) by terms (K, T), drawn towards 0."""
    weighted = terms * (weights / weights.sum().clamp(min=1e-6))[:, None]
    system = weighted.T @ terms + torch.diag(terms.new_tensor(ridge) + 1e-6)
    solution: Tensor = torch.linalg.solve(system, weighted.T @ values)
    return solution


def _beard(difference: Difference, rough: Tensor, bare: Tensor, regions: FaceRegions) -> Tensor:
    """(128, 128) bool: what may be a beard: on the chin and upper lip, and, where there is one, on the jaw.

    rough: (128, 128) bool, texels among more fine structure than bare skin has.
    """
    alike = difference.is_hair_coloured() & ((difference.lighter < 0) | rough)
    sure = (alike & (difference.squared() > 1)).float()
    front = (regions.front_beard & bare).float()
    found, room = (part.unflatten(1, (2, -1)).sum((0, 2)) for part in (sure * front, front))  # (2,): left, right
    bearded = (found > _BEARDED_SHARE * room).all()  # hair hangs down on one side, a beard grows on both
    return alike & (regions.beard if bearded else regions.front_beard)


def _rough(log_brightness: Tensor, skin: Tensor) -> Tensor:
    """(128, 128) bool: whether there is clearly more fine structure than on the skin, (128, 128) bool."""
    fine = (log_brightness - blur(log_brightness[None], 1)[0]).abs()
    usual = fine[skin].mean() if skin.any() else fine.mean()
    return blur(fine[None], _EDGE_RADIUS_TEXELS)[0] > _BEARD_ROUGHNESS * usual


def _up_to_edges(likely: Tensor, guide: Tensor, known: Tensor) -> Tensor:
    """(128, 128) the map averaged, but not across edges of the guide (guided filter, He et al. 2010).

    known: (128, 128) bool, texels that are counted.
    """
    weight = known.float()
    stacked = torch.stack([weight, guide * weight, likely * weight, guide * likely * weight, guide**2 * weight])
    total, *sums = blur(stacked, _EDGE_RADIUS_TEXELS)
    mean_guide, mean, both, squared = (part / total.clamp(min=1e-3) for part in sums)
    slope = (both - mean_guide * mean) / (squared - mean_guide**2 + _EDGE_VARIANCE)
    slope, level = blur(torch.stack([slope, mean - slope * mean_guide]), _EDGE_RADIUS_TEXELS).unbind()
    return (slope * guide + level).clamp(0, 1)


def _flooded(start: Tensor, passable: Tensor) -> Tensor:
    """(128, 128) bool: what is connected with the start through passable texels, all bool; narrow passages are shut."""
    half_px = REGION_PX // _FLOOD_PX
    open_ = (F.avg_pool2d(passable[None].float(), half_px) > 0.6).float()
    reached = F.max_pool2d(start[None].float(), half_px) * open_
    count: float | Tensor = -1.0
    while reached.sum() != count:
        count = reached.sum()
        for _ in range(8):
            reached = F.max_pool2d(reached, 3, stride=1, padding=1) * open_
    return F.interpolate(reached[None], scale_factor=half_px, mode="nearest")[0, 0] > 0


def _closed(likely: Tensor, known: Tensor, texels: int) -> Tensor:
    """(128, 128) with lines of low values, up to twice so many texels wide, taken out; of known (bool) texels only."""
    grown = -erode(-torch.where(known, likely, 0.0), texels)
    return erode(torch.where(known, grown, 1.0), texels)


def _drawn_in(own: Tensor, bare: Tensor) -> Tensor:
    """The map drawn in from what is no skin, and softened: a photo mixes the colours along a border."""
    return blur(erode(torch.where(bare, own, 1.0), _RIM_TEXELS)[None], _RIM_SOFTNESS_TEXELS)[0]


def _with_features(
    own: Tensor, uncovered: Tensor, eyes_show: list[bool], alike: Tensor, bare: Tensor, regions: FaceRegions
) -> Tensor:
    """The map with features: their own where the skin round them, (128, 128) in 0..1, is uncovered.

    Eyes in deep shadow are told from dark glasses by what they show. Brows are judged texel by texel, as hair or a hat
    may hang over them.
    alike: (128, 128) bool, where eyes and brows have colours that eyes and brows have.
    """
    nearby = push_pull(uncovered[None] * bare, bare.float())[0]
    alike = blur(alike.float()[None], 1)[0]
    brows = fade(nearby, *_BROW_COVERED_FADE) * alike
    own = torch.where(regions.brows, brows, own)
    softened = fade(blur(own[None], _BROW_SOFTNESS_TEXELS)[0], 0.5, 1.0)  # inwards: no seam above the brows
    own = torch.where(regions.brows, torch.minimum(own, softened), own)
    for feature, ring, is_shown in zip(regions.features, regions.rings, (False, *eyes_show, False), strict=True):
        ring = ring & bare
        share = uncovered[ring].mean() if ring.any() and not is_shown else torch.tensor(1.0)
        own = torch.where(feature, fade(share, *_FEATURE_COVERED_FADE), own)
    return torch.where(regions.features[1:3].any(0), own * alike, own)


def _per_half(region: Tensor, wanted: list[bool]) -> Tensor:
    """(128, 128) bool: the region's left and right halves, each if it is wanted."""
    return region & torch.tensor(wanted).repeat_interleave(REGION_PX // 2)


def _looks(log_brightness: Tensor) -> bool:
    """Whether these texels, (K,), between the lids show an eye: both darker and lighter parts than its middle tone."""
    dark, middle, light = log_brightness.quantile(log_brightness.new_tensor(_EYE_QUANTILES)).tolist()
    return bool(min(middle - dark, light - middle) > _EYE_CONTRAST)

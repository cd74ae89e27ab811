"""The model's own part: what its stages share."""

import gc

import numpy as np
import torch

import hrn_opt
from hrn_opt.hrn import model as hrn_model
from hrn_opt.types import Photo


def test_a_large_photo_is_reduced_once_and_not_kept(prepared_pack, monkeypatch):
    model = hrn_opt.load(str(prepared_pack), device="cpu", precision="fp32")._model
    reduced, keep = [], hrn_model.working_photo
    monkeypatch.setattr(hrn_model, "working_photo", lambda rgb: reduced.append(rgb.shape) or keep(rgb))
    photo = Photo(np.random.default_rng(0).integers(0, 256, (40, 2400, 3), np.uint8))
    with torch.inference_mode():
        model.find(photo)
        assert model._working(photo).size_hw == (25, 1500) and reduced == [(40, 2400, 3)]
        model.find(Photo(photo.rgb))
    assert len(reduced) == 2  # another photo, though it looks the same
    del photo
    gc.collect()
    assert not model._working_photos

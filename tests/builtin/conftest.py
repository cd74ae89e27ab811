"""What the tests of the embedded model share: the model itself, the example photo, and its reconstruction."""

import numpy as np
import pytest
import torch
from PIL import Image

from hrn_opt.builtin.model import BuiltinModel
from hrn_opt.photo import open_photo
from hrn_opt.pipeline import Reconstructor
from hrn_opt.types import Hints, Photo, Request, Want


@pytest.fixture(autouse=True)
def one_thread_no_gradients():
    """As the pipeline runs the stages."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def builtin():
    return BuiltinModel.load()


@pytest.fixture(scope="session")
def face_mesh(builtin):
    return builtin.face_mesh


@pytest.fixture(scope="session")
def reconstructor(builtin):
    return Reconstructor(builtin)


@pytest.fixture(scope="session")
def photo(example_photo):
    return open_photo(example_photo)


@pytest.fixture(scope="session")
def base(reconstructor, photo):
    """The example photo's reconstruction with a 512² texture."""
    return reconstructor.reconstruct(photo, texture_size=512)


@pytest.fixture(scope="session")
def shaped(builtin):
    """Makes the shape of a photo's largest face."""

    def shape_of(photo):
        request = Request(photo, photo, builtin.find(photo)[0], 0, Want.MESH, 512, Hints())
        return builtin.shape(request, builtin.align(request))

    return shape_of


@pytest.fixture(scope="session")
def placed(photo):
    """Makes a photo of the portrait resized, rolled clockwise and pasted on a plain canvas, with the face's centre."""

    def place(scale, canvas_hw, centre_xy, roll_deg=0.0, grey=(118, 126, 134)):
        """centre_xy: where the portrait's centre goes, and what it turns round."""
        side = round(512 * scale)
        portrait = Image.fromarray(photo.rgb).resize((side, side), Image.Resampling.LANCZOS)
        canvas = Image.new("RGB", (canvas_hw[1], canvas_hw[0]), grey)
        canvas.paste(portrait, (round(centre_xy[0] - side / 2), round(centre_xy[1] - side / 2)))
        turned = canvas.rotate(-roll_deg, Image.Resampling.BICUBIC, center=centre_xy, fillcolor=grey)
        return Photo(np.asarray(turned))

    return place

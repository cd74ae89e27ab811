"""Boxes and numbers on a photo's picture."""

import numpy as np

from hrn_opt.output.outlines import outlines
from hrn_opt.types import Box

GREY = np.full((120, 90, 3), 60, np.uint8)


def test_outlines_lie_on_the_boxes():
    changed = (outlines(GREY, [Box(10, 20, 50, 80)], 1) != 60).any(2)
    assert changed[20, 10:51].all() and changed[20:81, 10].all() and changed[80, 50]
    assert not changed[30:70, 20:40].any() and not changed[:15].any()


def test_several_faces_are_numbered_and_the_chosen_one_stands_out():
    boxes = [Box(10, 60, 50, 110), Box(60, 10, 88, 40)]
    first, second = (outlines(GREY, boxes, 1, chosen) for chosen in (0, 1))
    assert (first[110, 30] == second[40, 75]).all() and (first[40, 75] == 255).all()
    assert (outlines(GREY, boxes[:1], 1)[62:80, 12:30] == 60).mean() > (first[62:80, 12:30] == 60).mean()


def test_boxes_past_the_border_of_a_smaller_picture_are_drawn():
    picture = outlines(np.full((200, 300, 3), 60, np.uint8), [Box(-40, -30, 300, 990)], 1 / 3)
    assert picture.shape == (200, 300, 3) and (picture[100, 0] != 60).any() and (picture[199, 50] != 60).any()

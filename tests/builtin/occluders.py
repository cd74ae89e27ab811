"""Outlines of things that lie over a face, through its 468 points. Left and right are the picture's."""

CHIN_LINE = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454)
MASK = (*CHIN_LINE, 330, 6, 101)  # from ear to ear under the eyes
LEFT_CHEEK = (54, 103, 104, 105, 101, 36, 206, 214, 135, 136, 172, 58, 132, 93, 234, 127, 162, 21)  # the picture's left
LEFT_LENS = (70, 63, 105, 66, 107, 193, 245, 128, 121, 120, 119, 118, 117, 111, 143, 156)
RIGHT_LENS = (300, 293, 334, 296, 336, 417, 465, 357, 350, 349, 348, 347, 346, 340, 372, 383)
BEARD = (*CHIN_LINE[3:-3], 410, 391, 2, 165, 186)

"""HRN's sizes and counts, and its camera: each stands here once.

Source: the published networks' and assets' own shapes, and the constructors of facerecon_model.py and bfm.py.
"""

from __future__ import annotations

CROP_PX = 224  # the aligned face, as the coefficients' network, the skin mask and the fit's render see it
DETAIL_CROP_PX = 512  # the same view, larger, which textures are unwrapped from
UV_PX = 256  # the published maps in UV space: texture, valid mask, displacement, normals
DEFORMATION_PX = 64  # the map that moves vertices
RETOUCH_PX = 512  # the de-retouching network's input and output
POINTS_CROP_PX = 224  # the crops that the 106 points and S3FD see
FAN_CROP_PX = 256  # the crop that 3D-FAN sees
LANDMARK_COUNT = 68  # numbered as iBUG does

# The coefficients' network has one head for each part; translation has one for x and y, and one for z.
COEFFICIENTS = {"identity": 80, "expression": 64, "albedo": 80, "angles": 3, "light": 27, "translation": 3}
COEFFICIENT_COUNT = sum(COEFFICIENTS.values())  # 257

# The pinhole camera, in pixels of the 224 px crop and in decimetres.
FOCAL_PX = 1015.0
CENTRE_PX = CROP_PX / 2
CAMERA_DISTANCE_DM = 10.0

"""Opening photos: every kind of source in, one upright RGB array out, a named error for everything else.

`opening` is the way of a photo; `kinds` tells what a file is, `jpeg`, `png`, `gif`, `tiff` and `heif` read what Pillow
does not look at or cannot read, `orientation`, `depth`, `colour` and `profile` say how the stored numbers become
an upright sRGB picture. `resize` makes an opened one smaller, `quality` says what it and its face are good for.
"""

from hrn_opt.photo.limits import DEFAULT_LIMITS, PhotoLimits
from hrn_opt.photo.opening import PhotoSource, open_photo

__all__ = ["DEFAULT_LIMITS", "PhotoLimits", "PhotoSource", "open_photo"]

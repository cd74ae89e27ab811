"""What may be asked for, in numbers and names that every front offers; needs no torch."""

from __future__ import annotations

BUILTIN, HRN = "builtin", "hrn"  # the models
SMALLEST_TEXTURE, LARGEST_TEXTURE = 512, 4096  # pixels a side
DEFAULT_TEXTURE_SIZE = 1024
PRECISION_NAMES = ("fp32", "bf16", "fp16")

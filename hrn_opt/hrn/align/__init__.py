"""The face brought to the networks' frame: its crops, its skin mask, its cheeks widened."""

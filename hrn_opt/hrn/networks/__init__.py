"""HRN's networks for inference: normalisation folded into the convolutions where it can be."""

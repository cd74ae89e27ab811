"""The mesh: a morphable model's coarse shape, then its detail."""

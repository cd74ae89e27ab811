"""HRN (CVPR 2023): hierarchical face reconstruction, the published method with its result kept and its waste removed."""

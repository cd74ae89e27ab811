"""HRN (CVPR 2023): hierarchical face reconstruction, the published result kept and the waste removed."""

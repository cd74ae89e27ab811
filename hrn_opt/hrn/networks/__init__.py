"""HRN's networks for inference: normalisation folded into the convolutions where it can be.

Each module has its network, with `forward` as the only entry point, and `from_official`, which turns the published
state dict into the network's tensors; `load_network` makes the one from the other. Half precision by `.to(dtype)`.
"""

from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.networks.generator import DetailGenerator
from hrn_opt.hrn.networks.recon import ReconNet
from hrn_opt.hrn.networks.unet import DeRetouchNet

__all__ = ["DeRetouchNet", "DetailGenerator", "ReconNet", "load_network"]

"""What plans are made of: devices and networks."""

import torch

from hrn_opt.hrn.pack.networks import NETWORKS

CPU, GPU, META = torch.device("cpu"), torch.device("cuda:0"), torch.device("meta")


SPECS = NETWORKS

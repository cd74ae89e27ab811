"""What plans are made of: devices and networks."""

import torch

from hrn_opt.hrn.loading.memory_plan import FIND_NETWORKS, TEXTURE_NETWORKS

CPU, GPU, META = torch.device("cpu"), torch.device("cuda:0"), torch.device("meta")


SPECS = TEXTURE_NETWORKS | FIND_NETWORKS

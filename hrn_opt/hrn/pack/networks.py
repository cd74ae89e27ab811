"""The networks of HRN, each once: where it stands in the published pack, what it becomes, what it needs.

3D-FAN, a TorchScript archive, and the skin mask, a TensorFlow graph, stay files of their own (see prepared.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from hrn_opt.hrn.networks import generator, landmarks106, recon, retinaface, s3fd, unet
from hrn_opt.hrn.networks.folding import NetworkClass
from hrn_opt.hrn.pack import published


@dataclass(frozen=True)
class NetworkSpec:
    """One network. Its tensors in the prepared pack have its name before a dot.

    network_class: ours.
    from_official: what turns the published state dict into our tensors.
    file: of the published pack.
    key: of the state dict in that file; None where the file is the state dict.
    activation_bytes: most bytes alive at once within its forward, for one face in float32, its weights aside;
    test_memory_plan.py counts them on "meta".
    large: whether it takes the precision asked for. The others stay float32: in half precision recon and mid would
    move vertices by 1.7e-3 dm to save a twentieth of the time, and the detectors would move landmarks.
    """

    network_class: NetworkClass[nn.Module]
    from_official: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    file: str
    key: str | None
    activation_bytes: int
    large: bool = False


TEXTURE_NETWORKS: Mapping[str, NetworkSpec] = {
    "recon": NetworkSpec(recon.ReconNet, recon.from_official, published.WEIGHTS, "net_recon", 9_000_000),
    "de_retouch": NetworkSpec(
        unet.DeRetouchNet, unet.from_official, published.RETOUCH_WEIGHTS, "generator", 336_000_000, large=True
    ),
    "mid": NetworkSpec(generator.DetailGenerator, generator.from_official, published.WEIGHTS, "mid_net", 3_000_000),
    "high": NetworkSpec(  # 57 MB on a CPU, 42 elsewhere
        generator.DetailGenerator, generator.from_official, published.WEIGHTS, "high_net", 57_000_000, large=True
    ),
}
FIND_NETWORKS: Mapping[str, NetworkSpec] = {
    "retinaface": NetworkSpec(
        retinaface.RetinaFace, retinaface.from_official, published.RETINAFACE_WEIGHTS, None, 42_000_000
    ),
    "landmarks106": NetworkSpec(
        landmarks106.Landmarks106,
        landmarks106.from_official,
        published.LANDMARKS106_WEIGHTS,
        "state_dict",
        23_000_000,
    ),
    "s3fd": NetworkSpec(s3fd.S3FD, s3fd.from_official, published.S3FD_WEIGHTS, None, 26_000_000),
}
NETWORKS: Mapping[str, NetworkSpec] = {**TEXTURE_NETWORKS, **FIND_NETWORKS}

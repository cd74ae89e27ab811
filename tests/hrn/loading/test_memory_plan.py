"""Memory plans keep to their budget, and no result depends on them. No accelerator is needed: plans are made for one
that is not there, "meta" stands in for it where only places count, and offloading to the disk runs on the CPU."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrn_opt.errors import OptionInvalid
from hrn_opt.hrn.find.faces import FACES_AT_ONCE
from hrn_opt.hrn.loading import memory_plan
from hrn_opt.hrn.loading.build import TextureNetworks
from hrn_opt.hrn.loading.memory_plan import GIB, Parts, plan_memory
from hrn_opt.hrn.networks import generator
from hrn_opt.hrn.pack.networks import TEXTURE_NETWORKS
from tests.hrn.loading.parts import CPU, GPU, SPECS

MAPS = {"mid": (6, 3), "high": (9, 1)}  # channels in and out of the two generators


INPUTS = {
    "recon": (3, 224, 224),
    "de_retouch": (3, 512, 512),
    "mid": (6, 64, 64),
    "high": (9, 256, 256),
    "retinaface": (3, 512, 512),
    "landmarks106": (3, 224, 224),
    "s3fd": (3, 224, 224),
}


@pytest.fixture(scope="module")
def full_size() -> nn.ModuleDict:
    """Every network as published, on "meta", float32."""
    with torch.device("meta"):
        networks = {
            name: generator.DetailGenerator(*MAPS[name]) if name in MAPS else spec.network_class()
            for name, spec in SPECS.items()
        }
    return nn.ModuleDict(networks).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def full_parts(full_size) -> Parts:
    return Parts(full_size, bases_bytes=125_800_000, fan_bytes=96_000_000, skin_mask_bytes=34_000_000)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that come out of operations, for as long as they live. peak: the most at once."""

    def __init__(self, *known: torch.Tensor):
        super().__init__()
        self.known = [tensor.untyped_storage() for tensor in known]
        self.alive = {storage._cdata: 0 for storage in self.known}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.alive:
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return answer


@pytest.mark.parametrize(("given", "expected"), [(0.5, GIB // 2), (2, 2 * GIB), ("1.5", 3 * GIB // 2), (" Auto", None)])
def test_a_budget_is_read_in_gib(given, expected):
    assert memory_plan.parse_budget(given) == expected


@pytest.mark.parametrize("given", ["", "much", "0.5 GB", 0, -1, "nan", float("inf"), None, True, []])
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(OptionInvalid, match="use 'auto' or a number of GiB"):
        memory_plan.parse_budget(given)


@pytest.mark.parametrize("name", SPECS)
def test_activations_are_as_counted(full_size, name):
    network, image = full_size[name], torch.zeros(1, *INPUTS[name], device="meta")
    with torch.inference_mode(), LiveBytes(image, *network.parameters()) as live:
        network(image)
    assert 0.7 * SPECS[name].activation_bytes <= live.peak <= SPECS[name].activation_bytes


def test_specs_are_halved_as_the_networks_are(pack):
    empty = memory_plan.empty_networks(pack, TEXTURE_NETWORKS, torch.bfloat16)
    real = TextureNetworks(pack, torch.bfloat16)
    shapes = {name: (p.shape, p.dtype) for name, p in real.named_parameters()}
    assert {name: (p.shape, p.dtype) for name, p in empty.named_parameters()} == shapes


@pytest.mark.parametrize(
    ("device", "gib", "host_gib", "kind", "bases", "fan"),
    [
        (GPU, 1.25, 8, "resident", "cuda:0", "cuda:0"),
        (GPU, 1.0, 8, "cpu offload", "cpu", "cuda:0"),
        (GPU, 0.5, 8, "cpu offload", "cpu", "cpu"),
        (GPU, 0.5, 0.3, "disk offload", "cpu", "cpu"),
        (GPU, 0.5, 0, "disk offload", "cpu", "disk"),
        (CPU, 1.25, 8, "resident", "cpu", "cpu"),
        (CPU, 0.85, 8, "disk offload", "cpu", "disk"),
    ],
)
def test_plans_fill_the_budget_and_keep_to_it(full_parts, device, gib, host_gib, kind, bases, fan):
    parts = full_parts if device == GPU else Parts(full_parts.networks, 0, 96_000_000, 34_000_000)
    plan = plan_memory(parts, device, int(gib * GIB), host_bytes=int(host_gib * GIB))
    assert (plan.kind, plan.place_of("bases"), plan.place_of("fan")) == (kind, bases, fan)
    used = {str(device): 0, "cpu": 0, "disk": 0}
    for name, parameter in parts.networks.named_parameters():
        used[plan.place_of(name)] += parameter.nbytes
    if device == GPU:
        assert used["cpu"] <= host_gib * GIB
    libraries = memory_plan.LIBRARIES_BYTES if device == GPU else memory_plan.CPU_LIBRARIES_BYTES
    taken = used[str(device)] + plan.reserved_bytes + memory_plan.STAGES_BYTES + libraries
    offloaded = used[str(device)] < parts.networks_bytes
    visiting = parts.largest_layer_bytes if offloaded else 0
    assert taken + visiting <= gib * GIB
    if offloaded:  # and no layer more would fit, with room for the next one's visit
        assert taken + 3 * parts.largest_layer_bytes > gib * GIB - parts.skin_mask_bytes


def test_a_plan_names_modules_only(full_size):
    # Room for half of the 106-point network, which has numbers of its own beside its layers.
    parts = Parts(nn.ModuleDict({name: full_size[name] for name in ("landmarks106", "mid")}))
    room_bytes = memory_plan.STAGES_BYTES + memory_plan.LIBRARIES_BYTES + parts.activation_bytes + 8_000_000
    plan = plan_memory(parts, GPU, room_bytes, host_bytes=GIB)
    assert set(plan.device_map) - {name for name, _ in parts.networks.named_modules()} == {"bases", "fan", "skin_mask"}


@pytest.mark.parametrize("device", [GPU, CPU])
def test_too_small_a_budget_names_the_least_which_then_does(full_parts, device):
    with pytest.raises(OptionInvalid, match=r"memory=0.25 GiB is too little .* least possible is 0\.\d\d\.") as error:
        plan_memory(full_parts, device, GIB // 4, host_bytes=GIB)
    least = float(str(error.value).rstrip(".").split()[-1])
    assert plan_memory(full_parts, device, int(least * GIB), host_bytes=GIB).kind.endswith("offload")
    with pytest.raises(OptionInvalid):
        plan_memory(full_parts, device, int((least - 0.011) * GIB), host_bytes=GIB)


def test_half_a_gibibyte_of_an_accelerator_is_enough_in_float32(full_parts):
    plan_memory(full_parts, GPU, GIB // 2, host_bytes=GIB)


def test_accelerates_answer_is_translated(full_parts, monkeypatch):
    asked = {}

    def answer(networks, most, no_split_module_classes):
        asked.update(most)
        return {"recon": 0, "de_retouch.down": "cpu", "de_retouch.up": "disk"}

    monkeypatch.setattr("accelerate.infer_auto_device_map", answer)
    plan = plan_memory(full_parts, torch.device("cuda:1"), GIB // 2, host_bytes=GIB)
    places = {"recon.stem.weight": "cuda:1", "de_retouch.down.0.conv1.bias": "cpu", "de_retouch.up": "disk"}
    assert {name: plan.place_of(name) for name in places} == places
    assert asked["cpu"] == GIB - full_parts.whole_bytes  # less what visits whole
    assert asked[0] == GIB // 2 - plan.reserved_bytes - memory_plan.STAGES_BYTES - memory_plan.LIBRARIES_BYTES
    with pytest.raises(KeyError):
        plan.place_of("high.stem")
    monkeypatch.setattr("accelerate.infer_auto_device_map", lambda *_, **__: {"": "disk"})
    assert plan_memory(full_parts, GPU, GIB // 2, host_bytes=0).place_of("high.stem.weight") == "disk"


def test_faces_share_what_is_spare(full_parts):
    faces = [plan_memory(full_parts, GPU, int(gib * GIB), host_bytes=GIB).faces_at_once for gib in (4, 1, 0.5)]
    assert faces == [FACES_AT_ONCE, 5, 3]


def test_auto_fills_what_is_free_on_an_accelerator(pack, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (GIB, 2 * GIB))
    assert memory_plan.plan_for(pack, GPU, torch.float16, "auto").kind == "resident"
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (GIB // 8, 2 * GIB))
    with pytest.raises(OptionInvalid, match=r"memory=0.125 GiB"):
        memory_plan.plan_for(pack, GPU, torch.float16, "auto")

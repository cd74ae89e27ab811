"""Memory plans keep to their budget, and no result depends on them. No accelerator is needed: plans are made for one
that is not there, "meta" stands in for it where only places count, and offloading to the disk runs on the CPU."""

import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrn_opt.errors import OptionInvalid, PackIncomplete
from hrn_opt.hrn import stages
from hrn_opt.hrn.find.faces import FACES_AT_ONCE
from hrn_opt.hrn.loading import memory_plan, offload
from hrn_opt.hrn.loading.build import TextureNetworks, load_assets, load_skin_mask
from hrn_opt.hrn.loading.memory_plan import GIB, MemoryPlan, Parts, plan_memory
from hrn_opt.hrn.model import HrnModel
from hrn_opt.hrn.networks import generator
from hrn_opt.hrn.pack.networks import NETWORKS, TEXTURE_NETWORKS
from hrn_opt.hrn.pack.prepared import open_prepared

CPU, GPU, META = torch.device("cpu"), torch.device("cuda:0"), torch.device("meta")
SPECS = NETWORKS
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


@pytest.fixture(scope="module")
def pack(prepared_pack):
    return open_prepared(prepared_pack)


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


def everything(networks, find, mask, assets) -> list[torch.Tensor]:
    """What all networks and stages answer to the same made-up face."""
    random = torch.Generator().manual_seed(5)
    crop, detail = (torch.rand(1, 3, side, side, generator=random) for side in (224, 512))
    with torch.inference_mode():
        coarse = stages.coarse_shape(networks, assets, crop)
        detailed = stages.detailed_shape(networks, assets, coarse, detail, torch.ones(1, 1, 224, 224))
        heatmaps = find.fan(torch.rand(1, 3, 256, 256, generator=random))
        answers = [
            coarse.coefficients,
            detailed.vertices,
            detailed.deformation,
            detailed.displacement,
            detailed.albedo,
            detailed.normals,
        ]
        answers += [find.retinaface(detail).logits, find.landmarks106(crop), *find.s3fd(crop * 255)]
        answers += [heatmaps if isinstance(heatmaps, torch.Tensor) else heatmaps[-1]]
        return [*answers, mask.network((crop[0].permute(1, 2, 0) * 255).byte())]


def disk_plan(**elsewhere: str) -> MemoryPlan:
    """Everything on the disk, or where else `elsewhere` says; there "__" stands for a dot."""
    named = {name.replace("__", "."): place for name, place in elsewhere.items()}
    on_disk = dict.fromkeys({*SPECS, "fan", "skin_mask"} - {name.split(".")[0] for name in named}, "disk")
    return MemoryPlan(CPU, on_disk | {"bases": "cpu"} | named, 0, 2)


DISK = disk_plan()
MIXED = disk_plan(
    recon="cpu",
    landmarks106="cpu",
    mid__stem="disk",
    mid__down="disk",
    mid__blocks="cpu",
    mid__up="cpu",
    mid__out="disk",
    de_retouch__down="disk",
    de_retouch__up="cpu",
    de_retouch__out="cpu",
)


def run_as_planned(pack, plan: MemoryPlan, precision: torch.dtype, folder=None) -> list[torch.Tensor]:
    return everything(
        offload.texture_networks(pack, plan, precision),
        offload.find_networks(pack, plan),
        offload.skin_mask(pack, plan, folder),
        load_assets(pack, CPU, precision),
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_the_plan(pack, tmp_path, precision):
    expected = run_as_planned(pack, memory_plan.plan_for(pack, CPU, precision, "auto"), precision)
    for plan in (DISK, MIXED):
        for ours, theirs in zip(run_as_planned(pack, plan, precision, tmp_path), expected, strict=True):
            # The same weights in another layout: their products may be added up in another order.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * float(theirs.abs().max()))


def test_offloaded_weights_are_gone_again_after_a_call(pack):
    networks = offload.texture_networks(pack, MIXED, torch.bfloat16)
    for _ in range(2):
        networks.mid(torch.zeros(1, 6, 64, 64))
        for name, parameter in networks.named_parameters():
            assert parameter.device == (META if MIXED.place_of(name) == "disk" else CPU), name
    assert networks.high.stem.weight.dtype == torch.bfloat16


def test_weights_on_the_host_come_to_the_device_for_each_call(pack):
    plan = MemoryPlan(META, dict.fromkeys([*SPECS, "fan", "skin_mask", "bases"], "cpu"), 0)
    networks = offload.texture_networks(pack, plan, torch.float16)
    seen = []
    for conv in (networks.recon.stem, networks.high.blocks[3].conv2):
        conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].device))
    with torch.inference_mode():
        assert networks.recon(torch.zeros(1, 3, 224, 224)).device == META
        assert networks.high(torch.zeros(1, 9, 256, 256)).device == META
    assert seen == [META, META]
    waiting = networks.recon.stem._hf_hook.weights_map["weight"]
    torch.testing.assert_close(waiting, pack.tensor("recon.stem.weight"), rtol=0, atol=0)


def test_fan_visits(pack, monkeypatch):
    moves = []
    monkeypatch.setattr("accelerate.hooks.UserCpuOffloadHook.offload", lambda hook: moves.append("away"))
    image = torch.rand(1, 3, 256, 256)
    resident = torch.jit.load(pack.fan_path).eval()
    with torch.inference_mode():
        fan = offload.VisitingFan(pack, CPU)
        torch.testing.assert_close(fan(image), resident(image), rtol=0, atol=0)
    assert moves == ["away"]


def test_the_masks_copy_is_that_of_its_pack(pack, tmp_path):
    first = offload.skin_mask(pack, DISK, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith(str(pack.manifest.sources["segment_face.pb"]["sha256"]))
    assert (folder / "index.json").is_file()
    crop = (torch.rand(224, 224, 3, generator=torch.Generator().manual_seed(2)) * 255).byte()
    torch.testing.assert_close(first.network(crop), load_skin_mask(pack, CPU).network(crop), rtol=0, atol=0)
    assert all(parameter.is_meta for parameter in first.network.parameters())


def test_only_the_bases_may_lie_elsewhere(pack):
    assets = load_assets(pack, CPU, torch.float32, META)
    elsewhere = {name for name, tensor in vars(assets.morphable).items() if tensor.is_meta}
    assert elsewhere == {"mean_shape", "shape_basis", "albedo_mean", "albedo_basis"}
    assert not assets.uv.is_meta


def test_auto_fills_what_is_free_on_an_accelerator(pack, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (GIB, 2 * GIB))
    assert memory_plan.plan_for(pack, GPU, torch.float16, "auto").kind == "resident"
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (GIB // 8, 2 * GIB))
    with pytest.raises(OptionInvalid, match=r"memory=0.125 GiB"):
        memory_plan.plan_for(pack, GPU, torch.float16, "auto")


def test_the_model_follows_its_plan(pack, tmp_path, monkeypatch):
    with pytest.raises(OptionInvalid, match="least possible"):
        HrnModel.load(pack, CPU, torch.float32, 0.25)
    assert HrnModel.load(pack, CPU, torch.float32, 1.5).plan.kind == "resident"
    monkeypatch.setattr("hrn_opt.hrn.model.plan_for", lambda *_: DISK)
    model = HrnModel.load(pack, CPU, torch.float32, "auto", tmp_path)
    networks = [model.networks.mid, model.find_networks.s3fd, model.skin_mask.network]
    assert all(parameter.is_meta for network in networks for parameter in network.parameters())
    assert model.find_networks.faces_at_once == 2 and model.device == CPU


def test_a_pack_without_detectors_says_so(pack):
    bare = SimpleNamespace(need_detectors=lambda: (_ for _ in ()).throw(PackIncomplete("without detectors")))
    with pytest.raises(PackIncomplete):
        offload.find_networks(bare, DISK)


ANONYMOUS_MEMORY = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from hrn_opt.hrn.loading import memory_plan, offload
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.networks.s3fd import S3FD
from hrn_opt.hrn.pack import prepared

def anonymous_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon"))

folder, plan_kind = Path(sys.argv[1]), sys.argv[2]
device, specs = torch.device("cpu"), {"s3fd": NETWORKS["s3fd"]}
if not (folder / prepared.TENSORS).exists():
    save_file({f"s3fd.{name}": p.detach() for name, p in S3FD().named_parameters()}, folder / prepared.TENSORS)
    prepared.Manifest("0", False, {}, {}).write(folder)
    sys.exit()
pack = prepared.open_prepared(folder)
memory_plan.plan_for(pack, device, torch.float32, "auto")
assert "accelerate" not in sys.modules, "accelerate is imported where nothing is offloaded"
import accelerate
hooked = torch.nn.Linear(1, 1)  # a first call of any hook imports torch's compiler, 70 MB of it
accelerate.hooks.add_hook_to_module(hooked, accelerate.hooks.AlignDevicesHook("cpu"))(torch.zeros(1))
before = anonymous_mb()
if plan_kind == "disk":
    plan = memory_plan.MemoryPlan(device, {"s3fd": "disk"}, 0)
    network = offload.dispatch(memory_plan.empty_networks(pack, specs, torch.float32), specs, plan, pack).s3fd
else:
    network = load_network(S3FD, pack.tensors("s3fd"))
with torch.inference_mode():
    network(torch.zeros(1, 3, 64, 64))
print(anonymous_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_a_disk_plan_takes_less_memory(tmp_path):
    def child(kind: str) -> str:
        command = [sys.executable, "-c", ANONYMOUS_MEMORY, str(tmp_path), kind]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    child("write")
    disk_mb, resident_mb = float(child("disk")), float(child("resident"))
    assert resident_mb > 85  # S3FD's weights are 90 MB
    assert disk_mb < resident_mb - 60  # its largest layer is 19 MB

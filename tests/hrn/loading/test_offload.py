"""Weights that lie elsewhere give the same results, and are gone again after each call."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hrn_opt.errors import OptionInvalid, PackIncomplete
from hrn_opt.hrn import stages
from hrn_opt.hrn.loading import memory_plan, offload
from hrn_opt.hrn.loading.build import load_assets, load_skin_mask
from hrn_opt.hrn.loading.memory_plan import MemoryPlan
from hrn_opt.hrn.model import HrnModel
from tests.hrn.loading.parts import CPU, META, SPECS


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
from hrn_opt.hrn.pack.networks import NETWORKS
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.networks.s3fd import S3FD
from hrn_opt.hrn.pack import manifest, prepared

def anonymous_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon"))

folder, plan_kind = Path(sys.argv[1]), sys.argv[2]
device, specs = torch.device("cpu"), {"s3fd": NETWORKS["s3fd"]}
if not (folder / manifest.TENSORS).exists():
    save_file({f"s3fd.{name}": p.detach() for name, p in S3FD().named_parameters()}, folder / manifest.TENSORS)
    manifest.Manifest("0", False, {}, {}).write(folder)
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

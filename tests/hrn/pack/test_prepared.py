"""Opening a prepared pack: mapped, checked, and refused where it is damaged or something else."""

import subprocess
import sys
from pathlib import Path

import pytest

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.hrn.networks import generator, landmarks106, recon, retinaface, s3fd, unet
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.pack import home, manifest
from hrn_opt.hrn.pack.prepare import prepare
from hrn_opt.hrn.pack.prepared import open_prepared


@pytest.mark.parametrize(
    ("prefix", "network_class"),
    [
        ("recon", recon.ReconNet),
        ("de_retouch", unet.DeRetouchNet),
        ("mid", generator.DetailGenerator),
        ("high", generator.DetailGenerator),
        ("retinaface", retinaface.RetinaFace),
        ("landmarks106", landmarks106.Landmarks106),
        ("s3fd", s3fd.S3FD),
    ],
)
def test_networks_load_from_it(opened, prefix, network_class):
    network = load_network(network_class, opened.tensors(prefix))
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_tensors_are_mapped_not_read(prepared_pack):
    # Two MB of anonymous memory for 75 MB of tensors: names and views.
    code = (
        "import sys, torch; from pathlib import Path; from hrn_opt.hrn.pack.prepared import open_prepared\n"
        "def anonymous(): return int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0])\n"
        "before = anonymous(); pack = open_prepared(Path(sys.argv[1]))\n"
        "assert pack.tensor('bfm.albedo_basis')[3].sum() != 1\n"
        "print(anonymous() - before)"
    )
    status = Path("/proc/self/status")
    if not status.is_file() or "RssAnon" not in status.read_text():
        pytest.skip("this system does not tell mapped memory from other memory")
    run = subprocess.run([sys.executable, "-c", code, str(prepared_pack)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 8_000  # KB


@pytest.mark.parametrize("name", [manifest.TENSORS, manifest.FAN, manifest.MASK])
def test_a_truncated_or_missing_file_is_refused_and_made_again(published_pack, own_pack, name):
    with (own_pack / name).open("r+b") as file:
        file.truncate((own_pack / name).stat().st_size // 2)
    with pytest.raises(PackDamaged, match=f"{name}.* bytes instead of .*prepare the pack again"):
        open_prepared(own_pack)
    (own_pack / name).unlink()
    with pytest.raises(PackIncomplete, match=f"{name} is missing"):
        open_prepared(own_pack)
    prepare(published_pack, own_pack)
    assert open_prepared(own_pack).fan_path.is_file()


def test_a_damaged_header_is_refused(own_pack):
    path = own_pack / manifest.TENSORS
    with path.open("r+b") as file:
        file.write(b"\xff" * 64)
    with pytest.raises(PackDamaged, match="truncated or damaged"):
        open_prepared(own_pack)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        (f'{{"format": {manifest.FORMAT_VERSION}}}', "lacks entries"),
        ('{"format": 99}', "has format 99, this version reads"),
    ],
)
def test_a_manifest_of_something_else_is_refused(own_pack, content, match):
    (own_pack / home.MANIFEST).write_text(content)
    with pytest.raises(PackDamaged, match=match):
        open_prepared(own_pack)


def test_a_folder_without_manifest_is_no_pack(own_pack, tmp_path):
    (own_pack / home.MANIFEST).unlink()
    for folder in (own_pack, tmp_path / "nowhere", own_pack / manifest.TENSORS):
        assert not home.is_prepared(folder)
        with pytest.raises(PackIncomplete, match="holds no prepared pack"):
            open_prepared(folder)

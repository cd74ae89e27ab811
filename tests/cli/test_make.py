"""The command line on a stand-in for the model: what it prints, writes and answers, and what it never does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrn_opt.cli.make import main
from hrn_opt.errors import ModelMissing
from tests.cli.stand_in import ROOT, names, save_photo


def test_one_photo(run, model, tmp_path):
    photo = save_photo(tmp_path / "me.png", faces=2)
    code, out, err = run(photo, "--texture-size", 2048)
    assert code == 0 and err == "" and "1 of 2 faces with fake" in out
    assert names(tmp_path / "out") == ["me.glb", "me.mtl", "me.obj", "me.png", "me.report.json"]
    assert model.asked == [("me", 0, "mesh", 2048)] and model.finds == 1


def test_the_report(run, tmp_path):
    photo = save_photo(tmp_path / "me.png", faces=2)
    code, out, _ = run(photo, "--json")
    report = json.loads((tmp_path / "out" / "me.report.json").read_text())
    assert code == 0 and json.loads(out) == report and out.count("\n") == 1
    assert (report["photo"], report["width"], report["height"], report["model"]) == (photo, 120, 80, "fake")
    assert report["faces"] == [
        {"number": 1, "box": {"left": 0.0, "top": 1.0, "right": 60.0, "bottom": 50.0}, "score": 1.0},
        {"number": 2, "box": {"left": 1.0, "top": 1.0, "right": 61.0, "bottom": 50.0}, "score": 0.9},
    ]
    assert (report["device"], report["precision"]) == ("cuda:1", "fp16")
    (done,) = report["reconstructed"]
    assert done["mask_source"] is None
    assert done["stages"] == [{"stage": "shape", "seconds": 0.25}, {"stage": "texture", "seconds": 0.125}]
    assert (done["face"], done["seconds"], done["texture_px"], done["vertices"], done["triangles"]) == (
        1,
        0.375,
        8,
        3,
        1,
    )
    assert done["files"] and all(Path(path).is_file() for path in done["files"])
    assert set(report["versions"]) == {"python", "hrn_opt", "torch", "numpy", "pillow"}
    assert report["versions"]["torch"] == torch.__version__ and report["find_seconds"] >= 0


@pytest.mark.parametrize(
    ("choice", "faces", "stems"),
    [
        ("largest", [0], ["me"]),
        ("3", [2], ["me"]),
        ("all", [0, 1, 2], ["me-face1", "me-face2", "me-face3"]),
    ],
)
def test_face_choice(run, model, tmp_path, choice, faces, stems):
    photo = save_photo(tmp_path / "me.png", faces=3)
    assert run(photo, "--face", choice, "--formats", "png")[0] == 0
    assert [asked[1] for asked in model.asked] == faces and model.finds == 1
    assert names(tmp_path / "out") == [f"{stem}.png" for stem in stems] + ["me.report.json"]
    for face, stem in zip(faces, stems, strict=True):
        assert (np.asarray(Image.open(tmp_path / "out" / f"{stem}.png")) == 100 + face).all()


@pytest.mark.parametrize(
    ("formats", "want", "endings"),
    [("png", "texture", ["png"]), ("glb", "mesh", ["glb"]), (" obj , png", "mesh", ["mtl", "obj", "png"])],
)
def test_no_more_work_than_the_formats_need(run, model, tmp_path, formats, want, endings):
    assert run(save_photo(tmp_path / "me.png"), "--formats", formats)[0] == 0
    assert model.asked[0][2] == want
    assert names(tmp_path / "out") == [f"me.{ending}" for ending in endings[:2]] + (
        ["me.png", "me.report.json"] if len(endings) == 3 else ["me.report.json"]
    )


def _options(*arguments):
    return pytest.param(arguments, id=" ".join(arguments) or "none")


@pytest.mark.parametrize(
    "arguments",
    [
        _options("--face", "-1"),
        _options("--face", "0"),
        _options("--face", "left"),
        _options("--face", "9"),
        _options("--formats", "stl"),
        _options("--formats", ""),
        _options("--texture-size", "big"),
        _options("--texture-size", "7"),
        _options("--memory", "much"),
        _options("--unknown"),
    ],
)
def test_bad_options_exit_2_with_a_sentence(run, tmp_path, arguments):
    code, out, err = run(save_photo(tmp_path / "me.png"), *arguments)
    assert code == 2 and out == "" and len(err.strip().splitlines()[-1]) > 20
    assert names(tmp_path / "out") == []


def test_no_photo_exits_2(run):
    assert run()[0] == 2


def test_bad_photos_do_not_stop_the_others(run, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    faceless = save_photo(tmp_path / "sea.png", faces=0)
    good = [save_photo(tmp_path / "a.png"), save_photo(tmp_path / "b.png")]
    sources = [tmp_path / "none.jpg", good[0], text, faceless, good[1]]
    code, out, err = run(*sources, "--json", "--formats", "png")
    assert code == 2
    reports = [json.loads(line) for line in out.splitlines()]
    assert [report["photo"] for report in reports] == [str(source) for source in sources]
    kinds = [report.get("error", {}).get("kind") for report in reports]
    assert kinds == ["PhotoMissing", None, "PhotoUnreadable", "NoFaceFound", None]
    assert [line.split(": ")[0] for line in err.splitlines()] == [str(sources[k]) for k in (0, 2, 3)]
    assert names(tmp_path / "out") == ["a.png", "a.report.json", "b.png", "b.report.json"]


def test_photos_of_one_name_do_not_overwrite_each_other(run, tmp_path):
    sources = [
        save_photo(tmp_path / "x" / "me.png", faces=1),
        save_photo(tmp_path / "y" / "me.png", faces=2),
        save_photo(tmp_path / "y" / "ME.bmp", faces=1),
        save_photo(tmp_path / "y" / "me-face1.png", faces=1),
    ]
    assert run(*sources, "--face", "all", "--formats", "png")[0] == 0
    pngs = [name for name in names(tmp_path / "out") if name.endswith(".png")]
    assert pngs == sorted(
        ["me-face1.png", "me-2-face1.png", "me-2-face2.png", "ME-3-face1.png", "me-face1-2-face1.png"]
    )


def test_a_photo_in_the_output_folder_is_not_overwritten(run, tmp_path):
    photo = Path(save_photo(tmp_path / "out" / "me.png"))
    before = photo.read_bytes()
    assert run(photo, "--formats", "png")[0] == 0
    assert photo.read_bytes() == before
    assert names(tmp_path / "out") == ["me-2.png", "me-2.report.json", "me.png"]
    jpeg = save_photo(tmp_path / "out" / "you.jpg")
    assert run(jpeg, "--formats", "png")[0] == 0 and (tmp_path / "out" / "you.png").is_file()


def test_an_unwritable_folder(model, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = [save_photo(tmp_path / "me.png"), "--out", str(tmp_path / "file" / "out")]
    code = main(arguments, load=lambda name, **options: model)
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and "choose another folder" in printed.err


def test_a_missing_model_exits_1(tmp_path, capsys):
    def load(name, **options):
        raise ModelMissing(f"The model {name!r} is not here; fetch it first.")

    assert main([save_photo(tmp_path / "me.png"), "--out", str(tmp_path), "--model", "hrn"], load=load) == 1
    assert capsys.readouterr().err == "hrn-opt: The model 'hrn' is not here; fetch it first.\n"


def test_a_damaged_pack_exits_1_with_one_sentence(prepared_pack, tmp_path, capsys):
    damaged = shutil.copytree(prepared_pack, tmp_path / "damaged")
    os.truncate(damaged / "hrn.safetensors", 1000)
    photo = save_photo(tmp_path / "me.png")
    assert main([photo, "--out", str(tmp_path / "out"), "--model", str(damaged), "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "hrn-opt fetch" in printed.err
    assert not (tmp_path / "out").exists()


def test_what_hrn_runs_on_is_passed_on(model, tmp_path):
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return model

    photo = save_photo(tmp_path / "me.png")
    given = ["--model", "a/pack", "--device", "cuda:1", "--precision", "bf16"]
    given += ["--memory", "0.5", "--offload-folder", "b"]
    for arguments in ([], given):
        assert main([photo, "--out", str(tmp_path / "out"), "--formats", "png", *arguments], load=load) == 0
    nothing = {"device": "auto", "precision": "auto", "memory": "auto", "offload_folder": None}
    chosen = {"device": "cuda:1", "precision": "bf16", "memory": 0.5, "offload_folder": Path("b")}
    assert asked == [("auto", nothing), ("a/pack", chosen)]


@pytest.mark.parametrize("option", ["--device", "--precision", "--memory"])
def test_the_embedded_model_takes_no_such_options(tmp_path, capsys, option):
    value = {"--device": "cuda", "--precision": "fp16", "--memory": "2"}[option]
    photo = save_photo(tmp_path / "me.png")
    assert main([photo, "--out", str(tmp_path / "out"), "--model", "builtin", option, value]) == 2
    assert "not possible with the embedded model" in capsys.readouterr().err


def test_hrn_from_photo_to_report(prepared_pack, example_photo, tmp_path, capsys):
    options = ["--model", str(prepared_pack), "--device", "cpu", "--texture-size", "256", "--formats", "png,glb"]
    assert main([str(example_photo), "--out", str(tmp_path), "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["device"]) == ("hrn", "cpu") and report["precision"] in ("fp32", "bf16")
    (done,) = report["reconstructed"]
    assert (done["mask_source"], done["texture_px"]) == ("graph", 256) and done["vertices"] > 1000
    assert [stage["stage"] for stage in done["stages"]] == ["align", "shape", "detail", "texture", "assemble"]
    with Image.open(tmp_path / "astronaut.png") as texture:
        assert texture.size == (256, 256)


def test_help_loads_neither_torch_nor_pillow():
    code = (
        "import sys; from hrn_opt.cli.make import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stopped: assert stopped.code == 0\n"
        "sys.exit(sorted({'torch', 'PIL', 'numpy', 'gradio', 'pygltflib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "PHOTO" in done.stdout and "--texture-size" in done.stdout

"""Which models there are, what "auto" means, and how many a thread holds."""

import shutil

import pytest

from hrn_opt.errors import OptionInvalid
from hrn_opt.serving.jobs import ModelChoice
from hrn_opt.serving.model_cache import ModelCache
from hrn_opt.serving.models import Models

BUILTIN, HRN_32, HRN_16 = ModelChoice("builtin", "fp32"), ModelChoice("hrn", "fp32"), ModelChoice("hrn", "fp16")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HRN_OPT_HOME", str(tmp_path))
    monkeypatch.setattr("hrn_opt.runtime.has_fast_bf16", lambda: False)
    return tmp_path


def hrn_key(models):
    return models.states()[1].key


def test_states_follow_what_lies_in_the_cache(home, prepared_pack):
    models = Models(device="cpu")
    assert models.states()[0].ready and models.states()[0].name == "builtin"
    assert hrn_key(models) == "missing"
    (home / "published.partial").mkdir()
    assert hrn_key(models) == "fetched in part"
    (home / "published").mkdir()
    assert hrn_key(models) == "not prepared"
    shutil.copytree(prepared_pack, home / "prepared")
    assert models.states()[1].ready
    assert models.resolve(ModelChoice()) == HRN_32
    tensors = max((home / "prepared").rglob("*"), key=lambda path: path.stat().st_size)
    tensors.write_bytes(b"cut short")
    assert hrn_key(models) == "damaged" and not models.states()[1].ready


def test_auto_and_the_name_are_one_choice(home):
    models = Models(device="cpu")
    assert models.resolve(ModelChoice()) == models.resolve(ModelChoice("builtin")) == BUILTIN
    assert models.resolve(ModelChoice("builtin", "fp16")) == BUILTIN  # the precision is HRN's
    assert models.resolve(ModelChoice("hrn")) == HRN_32
    assert models.resolve(ModelChoice("hrn", "fp16")) == HRN_16
    assert Models(default="hrn", device="cpu").resolve(ModelChoice()) == HRN_32


def test_a_loaded_model_has_worked_once(home, example_photo, monkeypatch):
    photos = []
    monkeypatch.setattr("hrn_opt.pipeline.Reconstructor.reconstruct", lambda self, photo: photos.append(photo))
    model = Models(warm_photo=example_photo, device="cpu").load(BUILTIN)
    assert model.name == "builtin" and photos == [example_photo]
    with pytest.raises(OptionInvalid, match="precision"):
        Models().load(ModelChoice("builtin", "fp16"))


def test_a_shelf_loads_once_and_gives_up_the_longest_unused():
    loaded = []
    shelf = ModelCache(lambda choice: loaded.append(choice) or choice, most=2)
    other = ModelChoice("folder", "fp32")
    for choice in (BUILTIN, HRN_32, BUILTIN, other, BUILTIN):
        assert shelf.model(choice) == choice
    assert loaded == [BUILTIN, HRN_32, other]
    assert BUILTIN in shelf and other in shelf and HRN_32 not in shelf


def test_another_precision_takes_the_place_of_the_first():
    shelf = ModelCache(lambda choice: choice, most=3)
    for choice in (BUILTIN, HRN_32, HRN_16):
        shelf.model(choice)
    assert BUILTIN in shelf and HRN_16 in shelf and HRN_32 not in shelf


def test_where_memory_runs_out_the_others_make_room():
    held = []

    def load(choice):
        if choice.name == "hrn" and BUILTIN in shelf:
            raise MemoryError
        held.append(choice)
        return choice

    shelf = ModelCache(load, most=2)
    shelf.model(BUILTIN)
    assert shelf.model(HRN_32) == HRN_32 and BUILTIN not in shelf and held == [BUILTIN, HRN_32]


def test_a_load_that_fails_leaves_the_others():
    def load(choice):
        if choice.name == "hrn":
            raise OSError("not there")
        return choice

    shelf = ModelCache(load)
    shelf.model(BUILTIN)
    with pytest.raises(OSError):
        shelf.model(HRN_32)
    assert BUILTIN in shelf

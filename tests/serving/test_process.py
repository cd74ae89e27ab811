"""What a model process does with a job: faces found, one or all of them made, refusals among them."""

import errno
import threading
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from hrn_opt.errors import FaceTooSmall, FaceUnusable, OutputUnwritable, Stopped
from hrn_opt.serving.jobs import FacesFound, FacesMade, FindJob, MakeJob, StageDone, Writing
from hrn_opt.serving.model_cache import ModelCache
from hrn_opt.serving.photos import OpenPhotos
from hrn_opt.serving.process import Runner
from tests.serving.step_model import FACE, PHOTO, STAGES, Source, StepModel


class Refusing(StepModel):
    """Refuses the faces with these indices."""

    def __init__(self, *refused, faces=3):
        super().__init__(faces=faces)
        self.refused = refused

    def stream(self, found, *, face, **options):
        if face in self.refused:
            raise FaceTooSmall(f"Face {face} is too small.", width_px=9, least_px=20)
        yield from super().stream(found, face=face, **options)


@pytest.fixture
def run(tmp_path):
    def run(model, job, stop=None):
        source = Source(model)
        runner = Runner(ModelCache(source.load), source, OpenPhotos(lambda path, stop: PHOTO))
        return list(runner.run(job, stop or threading.Event()))

    return run


def make(folder, **options):
    return MakeJob(folder / "me.jpg", folder, **options)


def test_faces_are_found_with_a_picture_to_draw_on(run, tmp_path):
    found = run(StepModel(faces=2), FindJob(tmp_path / "me.jpg", tmp_path))[-1]
    assert isinstance(found, FacesFound) and found.boxes == (FACE.box, FACE.box) and found.scale == 1
    with Image.open(found.picture) as picture:
        assert picture.size == (60, 40)


def test_each_face_of_all_is_told_and_numbered(run, tmp_path):
    *events, made = run(StepModel(faces=2), make(tmp_path, face=None, want="texture"))
    told = [(event.number, event.count) for event in events if isinstance(event, StageDone)]
    assert told == [(1, 2)] * 6 + [(2, 2)] * 6 and sum(isinstance(event, Writing) for event in events) == 2
    assert [face.number for face in made.faces] == [1, 2]
    assert [face.files.texture.name for face in made.faces] == ["photo-face1.png", "photo-face2.png"]
    assert made.everything.name == "photo.everything.zip"
    with zipfile.ZipFile(made.everything) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"face1", "face2"}


def test_finding_counts_once_among_the_costs(run, tmp_path):
    made = run(StepModel(faces=2), make(tmp_path, face=None, formats=("png",)))[-1]
    assert [[cost.stage for cost in face.costs] for face in made.faces] == [STAGES, STAGES[1:]]


def test_the_others_are_made_where_one_is_refused(run, tmp_path):
    made = run(Refusing(0), make(tmp_path, face=None, want="texture"))[-1]
    assert isinstance(made, FacesMade) and [face.number for face in made.faces] == [2, 3]
    assert [type(refusal) for refusal in made.refusals] == [FaceTooSmall]
    assert made.everything.is_file()


@pytest.mark.parametrize(("refused", "face"), [((0, 1, 2), None), ((1,), 1)])
def test_where_none_could_be_made_the_refusal_is_raised(run, tmp_path, refused, face):
    with pytest.raises(FaceUnusable):
        run(Refusing(*refused), make(tmp_path, face=face))


def test_the_other_model_process_need_not_be_asked_for_formats(run, tmp_path):
    made = run(StepModel(), make(tmp_path, formats=("png",)))[-1]
    assert made.everything is None and [path.name for path in made.faces[0].files] == ["photo.png"]


def test_a_folder_that_cannot_be_written_is_a_sentence(run, tmp_path):
    with pytest.raises(OutputUnwritable) as caught:
        run(StepModel(), make(tmp_path / "gone", formats=("png",)))
    assert str(tmp_path) not in str(caught.value)


def test_a_full_disk_is_a_sentence_that_names_no_folder(run, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputUnwritable, match="no space left on device") as caught:
        run(StepModel(), make(tmp_path, formats=("png",)))
    assert str(tmp_path) not in str(caught.value)


def test_a_raised_stop_ends_it_before_it_begins(run, tmp_path):
    stop = threading.Event()
    stop.set()
    model = StepModel()
    with pytest.raises(Stopped):
        run(model, make(tmp_path), stop)
    assert not model.calls

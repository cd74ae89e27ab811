"""The pipeline with a fake model, so that order, stops and options are seen without a network; then the real one."""

import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from hrn_opt.errors import FaceNotThere, FaceTooSmall, NoFaceFound, OptionInvalid, Stopped
from hrn_opt.photo import open_photo
from hrn_opt.pipeline import Reconstructor
from hrn_opt.runtime import DeviceInfo
from hrn_opt.types import Box, Camera, Face, Hints, Mesh, Photo, Reconstruction, Stage, UVTexture, Want

STAGES = [Stage.FIND, Stage.ALIGN, Stage.SHAPE, Stage.TEXTURE, Stage.ASSEMBLE]
PHOTO = Photo(np.full((70, 90, 3), 120, np.uint8), "somebody")


@dataclass
class FakeModel:
    """Writes down what it was asked; raises the stop flag inside one stage."""

    face_count: int = 2
    stop_during: Stage | None = None
    name: str = "fake"
    cpu_threads: int = 1
    extra_texture_sizes: tuple[int, ...] = ()
    faces_at_once: int = 1
    has_detail: bool = False
    takes_hints: bool = False
    ran: list = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def _note(self, stage, *inputs):
        self.ran.append((stage, torch.get_num_threads(), torch.is_inference_mode_enabled(), inputs))
        if stage is self.stop_during:
            self.stop.set()

    def working_copy(self, photo):
        return ("working", photo)

    def find(self, working):
        self._note(Stage.FIND, working)
        return tuple(Face(Box(0, 0, 69 - k, 69), torch.full((5, 2), float(k)), 0.9) for k in range(self.face_count))

    def face_at(self, landmarks):
        return Face(Box(0, 0, 50, 50), landmarks, 1.0)

    def yaw_rad(self, shape):
        return 0.1

    def align(self, request):
        self._note(Stage.ALIGN, request)
        return "aligned"

    def shape(self, request, aligned):
        self._note(Stage.SHAPE, request, aligned)
        return "shaped"

    def detail(self, request, shape):
        self._note(Stage.DETAIL, request, shape)
        return "detailed"

    def texture(self, request, shape):
        self._note(Stage.TEXTURE, request, shape)
        size = request.texture_size
        return UVTexture(np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8))

    def assemble(self, request, shape, texture):
        self._note(Stage.ASSEMBLE, request, shape, texture)
        mesh = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), torch.zeros(3, 3), torch.zeros(3, 2))
        return Reconstruction(
            model=self.name,
            photo_name=request.photo.name,
            face_index=request.face_index,
            face=request.face,
            texture=texture,
            camera=Camera(torch.eye(4)),
            mesh=mesh,
        )

    @property
    def stages(self):
        return [entry[0] for entry in self.ran]


@pytest.fixture
def fake():
    return FakeModel()


def test_events_come_in_order_and_reach_one(fake):
    events = list(Reconstructor(fake).stream(PHOTO))
    assert [event.stage for event in events] == STAGES
    fractions = [event.fraction for event in events]
    assert fractions == sorted(set(fractions)) and fractions[0] > 0 and fractions[-1] == 1
    assert [len(event.faces) for event in events] == [2, 0, 0, 0, 0]
    assert [event.reconstruction is None for event in events] == [True] * 4 + [False]
    assert all(event.seconds >= 0 for event in events)


def test_each_stage_gets_what_the_one_before_gave(fake):
    made = Reconstructor(fake).reconstruct(PHOTO, face=1, texture_size=777)
    inputs = {stage: given for stage, _, _, given in fake.ran}
    assert fake.stages == STAGES
    (request,) = inputs[Stage.ALIGN]
    assert request.photo is PHOTO and request.face is made.face and request.face_index == 1
    assert (request.want, request.texture_size) == (Want.MESH, 777)
    assert inputs[Stage.SHAPE] == (request, "aligned") and inputs[Stage.TEXTURE] == (request, "shaped")
    assert inputs[Stage.ASSEMBLE] == (request, "shaped", made.texture)
    assert (made.model, made.photo_name, made.face_index) == ("fake", "somebody", 1)
    assert made.face.points[0, 0] == 1 and made.texture.size == 777
    assert [timing.stage for timing in made.timings] == STAGES
    assert made.seconds == sum(timing.seconds for timing in made.timings)


def test_every_face_one_after_another(fake):
    everyone = Reconstructor(fake).reconstruct_all(PHOTO, texture_size=600)
    assert fake.stages == [Stage.FIND, *STAGES[1:], *STAGES[1:]]
    assert [one.face_index for one in everyone] == [0, 1] and [one.face.points[0, 0] for one in everyone] == [0, 1]
    assert [timing.stage for timing in everyone[1].timings] == STAGES[1:] and everyone[1].texture.size == 600


def test_every_face_stops_before_the_next_stage():
    model = FakeModel(stop_during=Stage.SHAPE)
    with pytest.raises(Stopped):
        Reconstructor(model).reconstruct_all(PHOTO, stop=model.stop)
    assert model.stages == STAGES[:3]


def test_events_are_lazy(fake):
    stream = Reconstructor(fake).stream(PHOTO)
    assert fake.stages == []
    next(stream)
    assert fake.stages == [Stage.FIND]
    next(stream)
    assert fake.stages == [Stage.FIND, Stage.ALIGN]


def test_a_model_with_detail_has_a_stage_more():
    model = FakeModel(has_detail=True)
    events = list(Reconstructor(model).stream(PHOTO))
    assert [event.stage for event in events] == list(Stage)
    inputs = {stage: given for stage, _, _, given in model.ran}
    assert inputs[Stage.DETAIL][1] == "shaped" and inputs[Stage.TEXTURE][1] == "detailed"


@pytest.mark.parametrize("want, has_mesh", [("texture", False), ("mesh", True), (Want.DETAIL, True)])
def test_mesh_only_when_wanted(model, example_photo, want, has_mesh):
    assert (model.reconstruct(example_photo, want=want, texture_size=512).mesh is not None) == has_mesh


def test_a_models_own_texture_size():
    model = FakeModel(extra_texture_sizes=(256,))
    assert Reconstructor(model).reconstruct(PHOTO, texture_size=256).texture.size == 256
    with pytest.raises(OptionInvalid, match="256 or a whole number, 512 to 4096"):
        Reconstructor(model).reconstruct(PHOTO, texture_size=300)


@pytest.mark.parametrize("work", ["reconstruct", "reconstruct_all"])
def test_the_working_copy_is_made_once_and_passed_on(fake, monkeypatch, work):
    made, keep = [], FakeModel.working_copy
    monkeypatch.setattr(FakeModel, "working_copy", lambda self, photo: made.append(keep(self, photo)) or made[-1])
    getattr(Reconstructor(fake), work)(PHOTO)
    (working,) = made
    inputs = {stage: given for stage, _, _, given in fake.ran}
    assert inputs[Stage.FIND] == (working,) and inputs[Stage.ALIGN][0].working is working


def test_landmarks_spare_the_find_stage():
    model = FakeModel(takes_hints=True)
    landmarks = np.arange(136.0).reshape(68, 2)
    Reconstructor(model).reconstruct(PHOTO, landmarks=landmarks, skin_mask=np.full((224, 224), 255, np.uint8))
    assert model.stages == STAGES[1:]
    request = model.ran[0][3][0]
    assert np.array_equal(request.face.points, landmarks) and request.hints.cheek_widening == 0.03
    assert (request.hints.skin_mask == 1).all()


@pytest.mark.parametrize(
    "given", [{"landmarks": np.zeros((5, 2))}, {"skin_mask": np.zeros((2, 2))}, {"cheek_widening": -0.1}]
)
def test_hints_that_do_not_fit(given):
    with pytest.raises(OptionInvalid, match=next(iter(given))):
        Reconstructor(FakeModel(takes_hints=True)).reconstruct(PHOTO, **given)


def test_hints_are_refused_by_a_model_without_use_for_them(fake):
    with pytest.raises(OptionInvalid, match="fake"):
        list(Reconstructor(fake).stream(PHOTO, hints=Hints()))
    assert fake.stages == []


@pytest.mark.parametrize("size", [511, 4097, 0, -1024, True, 1024.0, "1024", None])
def test_texture_size_outside_is_refused_before_any_work(fake, size):
    with pytest.raises(OptionInvalid, match="512 to 4096"):
        Reconstructor(fake).reconstruct(PHOTO, texture_size=size)
    assert fake.stages == []


@pytest.mark.parametrize("size", [512, 4096])
def test_texture_size_limits_are_allowed(fake, size):
    assert Reconstructor(fake).reconstruct(PHOTO, texture_size=size).texture.size == size


def test_unknown_want_is_refused_before_any_work(fake):
    with pytest.raises(OptionInvalid, match="'x'"):
        Reconstructor(fake).reconstruct(PHOTO, want="x")
    assert fake.stages == []


@pytest.mark.parametrize("face", [2, 99, -1])
def test_face_past_the_last_one(fake, face):
    with pytest.raises(FaceNotThere, match=f"no face number {face + 1}: 2 faces were found"):
        Reconstructor(fake).reconstruct(PHOTO, face=face)
    assert fake.stages == [Stage.FIND]


@pytest.mark.parametrize("face", ["largest", 0.5, None, True])
def test_face_that_is_no_number(fake, face):
    with pytest.raises(OptionInvalid, match="whole number"):
        Reconstructor(fake).reconstruct(PHOTO, face=face)


def test_no_face_is_said_by_find_and_by_reconstruct():
    empty = Reconstructor(FakeModel(face_count=0))
    for call in (empty.find, empty.reconstruct):
        with pytest.raises(NoFaceFound, match="photo"):
            call(PHOTO)


def test_known_faces_spare_the_find_stage(fake):
    reconstructor = Reconstructor(fake)
    faces = reconstructor.find(PHOTO)
    fake.ran.clear()
    events = list(reconstructor.stream(PHOTO, faces=faces, face=1))
    assert fake.stages == STAGES[1:]
    assert events[0].stage is Stage.FIND and events[0].faces is faces and events[0].seconds == 0
    assert events[-1].reconstruction.face is faces[1]
    assert [timing.stage for timing in events[-1].reconstruction.timings] == STAGES[1:]


def test_stop_before_the_start_runs_nothing(fake):
    fake.stop.set()
    with pytest.raises(Stopped, match="find"):
        Reconstructor(fake).reconstruct(PHOTO, stop=fake.stop)
    assert fake.stages == []


@pytest.mark.parametrize("during", STAGES[:-1])
def test_stop_during_a_stage_runs_no_later_one(during):
    model = FakeModel(stop_during=during)
    with pytest.raises(Stopped):
        Reconstructor(model).reconstruct(PHOTO, stop=model.stop)
    assert model.stages == STAGES[: STAGES.index(during) + 1]


def test_stop_between_events():
    model = FakeModel()
    stream = Reconstructor(model).stream(PHOTO, stop=model.stop)
    next(stream)
    model.stop.set()
    with pytest.raises(Stopped, match="align"):
        next(stream)
    assert model.stages == [Stage.FIND]


def test_a_stage_ends_when_the_device_has_done_it(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    for number, _ in enumerate(Reconstructor(FakeModel(), DeviceInfo("cuda:1")).stream(PHOTO), 1):
        assert waited == ["cuda:1"] * number
    list(Reconstructor(FakeModel()).stream(PHOTO))
    assert len(waited) == len(STAGES)  # a CPU needs no waiting for


def test_threads_are_the_models_inside_and_the_callers_outside():
    before = torch.get_num_threads()
    model = FakeModel(cpu_threads=before + 1)
    stream = Reconstructor(model).stream(PHOTO)
    for _ in stream:
        assert torch.get_num_threads() == before and not torch.is_inference_mode_enabled()
    assert {threads for _, threads, _, _ in model.ran} == {before + 1}
    assert all(inference for _, _, inference, _ in model.ran)


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(NoFaceFound):
        Reconstructor(FakeModel(face_count=0, cpu_threads=before + 1)).find(PHOTO)
    assert torch.get_num_threads() == before


def test_real_model_says_no_face(model):
    with pytest.raises(NoFaceFound):
        model.find(np.full((120, 90, 3), 128, np.uint8))


def assert_same(first, second):
    assert np.array_equal(first.texture.rgb, second.texture.rgb)
    assert np.array_equal(first.texture.visibility, second.texture.visibility)
    assert torch.equal(first.mesh.vertices, second.mesh.vertices)
    assert torch.equal(first.camera.matrix, second.camera.matrix)


def test_two_threads_at_once_give_what_one_gives_again(model, example_photo):
    photo = open_photo(example_photo)
    alone, again = (model.reconstruct(photo, texture_size=512) for _ in range(2))
    assert_same(alone, again)
    made = {}

    def work(name, rgb):
        made[name] = model.reconstruct(Photo(rgb), texture_size=512)

    turned = np.ascontiguousarray(photo.rgb[:, ::-1])  # another photo at the same time: nothing may leak across
    threads = [threading.Thread(target=work, args=one) for one in (("same", photo.rgb), ("other", turned))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(alone, made["same"])
    assert_same(model.reconstruct(Photo(turned), texture_size=512), made["other"])


@pytest.mark.parametrize("faces_at_once", [1, 3])
def test_all_faces_without_those_that_are_of_no_use(faces_at_once):
    class Crowd(FakeModel):
        def find(self, photo):
            large, *_ = super().find(photo)
            return large, replace(large, box=Box(0, 0, 9, 9)), replace(large, points=large.points + 1)

        def yaw_rad(self, shape):
            return 1.4 if shape == "profile" else 0.0

        def shape_together(self, aligned):
            return ["shaped", "profile"]

        def shape(self, request, aligned):
            return "profile" if request.face_index == 2 else "shaped"

        def detail_together(self, shapes):
            return shapes

    model = Reconstructor(Crowd(faces_at_once=faces_at_once, has_detail=True))
    assert [one.face_index for one in model.reconstruct_all(PHOTO, texture_size=512)] == [0]
    with pytest.raises(FaceTooSmall):
        model.reconstruct_all(PHOTO, faces=model.find(PHOTO)[1:2])

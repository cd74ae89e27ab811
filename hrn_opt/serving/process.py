"""A model process: one photo at a time goes in by its path, files come out by theirs.

The server starts some of these and stays free of torch. A process may die of a photo; the others and the page go on.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from hrn_opt.errors import (
    FaceUnusable,
    HrnOptError,
    InternalError,
    ModelDamaged,
    ModelMissing,
    OutOfMemory,
    OutputUnwritable,
    PackError,
    Stopped,
)
from hrn_opt.machine import resident_bytes
from hrn_opt.options import BUILTIN
from hrn_opt.output.outlines import LONGEST_PX
from hrn_opt.photo.resize import resize_longest
from hrn_opt.pipeline import Detection
from hrn_opt.runtime import device_bytes, free_unused, keep_freed_memory, ran_out_of_memory, use_usable_cpus
from hrn_opt.serving.children import end_at_once
from hrn_opt.serving.jobs import (
    FaceMade,
    FacesFound,
    FacesMade,
    FindJob,
    Job,
    Loading,
    MakeJob,
    ModelChoice,
    StageCost,
    StageDone,
    Writing,
)
from hrn_opt.serving.memory import MemoryLog
from hrn_opt.serving.messages import Do, Failed, Finished, LoadFailed, Order, Ready, Report, Told
from hrn_opt.serving.model_cache import ModelCache
from hrn_opt.serving.models import Model, ModelProvider
from hrn_opt.serving.opener import PhotoOpener
from hrn_opt.serving.photos import OpenPhotos
from hrn_opt.serving.results import write_face, zip_of_all
from hrn_opt.serving.setup import ProcessSetup
from hrn_opt.types import Photo, Reconstruction, Stage

log = logging.getLogger(__name__)

_PICTURE_QUALITY = 90
_FORGETS_EVERY_S = 5.0  # photos whose files are gone


def main(connection: Connection, setup: ProcessSetup) -> None:
    """The life of the process, until the server tells it to end, or is gone."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of the opener: threads take address space
    if setup.begin is not None:
        setup.begin()
    keep_freed_memory()
    use_usable_cpus()
    with closing(PhotoOpener(setup.opener)) as opener, suppress(OSError):  # OSError: the server is gone
        work(connection, setup, opener.open)
    end_at_once()


def work(connection: Connection, setup: ProcessSetup, open_photo: Callable[[Path, threading.Event], Photo]) -> None:
    """Does the jobs that come until the server says that it is over, or is gone."""
    models = ModelCache(setup.models.load, setup.most_models)
    runner = Runner(models, setup.models, OpenPhotos(open_photo), MemoryLog(setup.log_memory).photo_done)
    orders = _Orders(connection)
    connection.send(_first_load(runner))
    for order in orders:
        if order is None:
            runner.forget_gone()
        else:
            _answer(connection, runner, order, orders)


def _first_load(runner: Runner) -> Report:
    try:
        runner.load(ModelChoice())
    except Exception as error:  # a boundary: said to the server, and tried again by the next photo
        log.error("The model did not load; the next photo tries again: %s", error, exc_info=error)
        return LoadFailed(_without_paths(error) if isinstance(error, HrnOptError) else _internal())
    return Ready()


def _answer(connection: Connection, runner: Runner, order: Do, orders: _Orders) -> None:
    """Everything that comes of the job is sent, its end last."""
    stop = orders.stop_of(order.number)
    try:
        for event in runner.run(order.job, stop):
            if isinstance(event, FacesFound | FacesMade):
                answer: Report = Finished(order.number, event)
            else:
                connection.send(Told(order.number, event))
    except HrnOptError as error:
        answer = Failed(order.number, _without_paths(error))
    except Exception as error:  # a boundary: one sentence to the visitor, the rest to the log
        log.exception("A photo failed")
        answer = Failed(order.number, _internal() if not ran_out_of_memory(error) else _out_of_memory())
    free_unused()
    orders.ended(order.number)
    connection.send(answer)


class _Orders:
    """The jobs as they come; stop flags are raised as soon as the server says so, whatever goes on."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._jobs: queue.SimpleQueue[Do | None] = queue.SimpleQueue()
        self._stops: dict[int, threading.Event] = {}
        threading.Thread(target=self._listen, name="hrn-opt-orders", daemon=True).start()

    def __iter__(self) -> Iterator[Do | None]:
        """Each job; None when there was none for some seconds. Ends with the server's word, or the server."""
        while True:
            try:
                order = self._jobs.get(timeout=_FORGETS_EVERY_S)
            except queue.Empty:
                yield None
                continue
            if order is None:
                return
            yield order

    def stop_of(self, number: int) -> threading.Event:
        return self._stops[number]

    def ended(self, number: int) -> None:
        del self._stops[number]

    def _listen(self) -> None:
        with suppress(EOFError, OSError):  # the server is gone
            while True:
                order: Order = self._connection.recv()
                if isinstance(order, Do):
                    self._stops[order.number] = threading.Event()
                    self._jobs.put(order)
                elif order.number is None:
                    break
                elif (stop := self._stops.get(order.number)) is not None:
                    stop.set()
        for stop in list(self._stops.values()):
            stop.set()
        self._jobs.put(None)


class Runner:
    """Works on one job after the other, with models and opened photos kept for the next.

    after_photo: called after each one that was made.
    """

    def __init__(
        self,
        models: ModelCache,
        provider: ModelProvider,
        photos: OpenPhotos,
        after_photo: Callable[[], None] = lambda: None,
    ):
        self._models = models
        self._provider = provider
        self._photos = photos
        self._after_photo = after_photo

    def load(self, choice: ModelChoice) -> Model:
        return self._models.model(self._provider.resolve(choice))

    def forget_gone(self) -> None:
        """Lets go of the photos whose files are gone: their visitors have left."""
        self._photos.forget_gone()

    def run(self, job: Job, stop: threading.Event) -> Iterator[Loading | StageDone | Writing | FacesFound | FacesMade]:
        """What happens, as it does; the outcome last. Raises the photo's error, the model's, OutOfMemory, Stopped."""
        choice = self._provider.resolve(job.choice)
        if choice not in self._models:
            yield Loading(choice)
        model = self._models.model(choice)
        _check(stop)
        start = time.perf_counter()
        found = self._photos.detection(job.photo, choice, model.detect, stop)
        cost = _cost(Stage.FIND, time.perf_counter() - start)
        try:
            if isinstance(job, FindJob):
                yield _found(found, job.folder)
            else:
                yield from self._made(job, choice, model, found, cost, stop)
        except (OSError, OutputUnwritable) as error:  # the latter's own sentence names the server's folder
            cause = error if isinstance(error, OSError) else error.__cause__
            reason = (getattr(cause, "strerror", None) or "they are in the way").lower()
            raise OutputUnwritable(f"The files could not be written ({reason}); try again later.") from error

    def _made(
        self, job: MakeJob, choice: ModelChoice, model: Model, found: Detection, cost: StageCost, stop: threading.Event
    ) -> Iterator[StageDone | Writing | FacesMade]:
        numbers = range(len(found.faces)) if job.face is None else [job.face]
        made: list[FaceMade] = []
        refusals: list[FaceUnusable] = []
        for count, index in enumerate(numbers, 1):
            costs = [cost] if count == 1 else []
            reconstruction = None
            try:
                for event in model.stream(found, face=index, want=job.want, texture_size=job.texture_size, stop=stop):
                    if event.stage is not Stage.FIND:
                        costs.append(_cost(event.stage, event.seconds))
                    yield StageDone(costs[-1] if costs else cost, event.fraction, count, len(numbers))
                    reconstruction = event.reconstruction
            except FaceUnusable as refusal:
                if len(numbers) == 1 or (count == len(numbers) and not made):
                    raise
                refusals.append(refusal)
                continue
            assert reconstruction is not None, "the last event carries it"
            _check(stop)
            yield Writing()
            made.append(_written(reconstruction, job, index, len(numbers), found, costs))
        everything = None if job.formats is not None else _everything(made, job)
        self._after_photo()
        yield FacesMade(tuple(made), tuple(refusals), everything, choice)


def _cost(stage: Stage, seconds: float) -> StageCost:
    return StageCost(stage, seconds, resident_bytes(), device_bytes())


def _found(found: Detection, folder: Path) -> FacesFound:
    picture = resize_longest(found.photo.rgb, LONGEST_PX)
    path = folder / "photo.jpg"
    Image.fromarray(picture).save(path, quality=_PICTURE_QUALITY)
    return FacesFound(tuple(face.box for face in found.faces), path, picture.shape[1] / found.photo.size_hw[1])


def _written(
    reconstruction: Reconstruction, job: MakeJob, index: int, count: int, found: Detection, costs: list[StageCost]
) -> FaceMade:
    if count > 1:
        reconstruction = replace(reconstruction, photo_name=f"{reconstruction.photo_name}-face{index + 1}")
    return write_face(reconstruction, job.folder / str(index), found.photo, index + 1, costs, job.formats)


def _everything(made: list[FaceMade], job: MakeJob) -> Path | None:
    first = made[0].files.everything
    if len(made) == 1 or first is None:
        return first
    name = first.name.replace("-face1.", ".") if made[0].number == 1 else first.name
    return zip_of_all(made, job.folder / name)


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped("Stopped.")


def _without_paths(error: HrnOptError) -> HrnOptError:
    """The same, where its sentence is fit for visitors; that of a damaged model is for the log, as it names folders."""
    own_is_missing = isinstance(error, ModelMissing) and error.values.get("model") == BUILTIN
    if not (own_is_missing or isinstance(error, ModelDamaged | PackError)):
        return error
    log.error("A model cannot be used: %s", error)
    kind = ModelDamaged if own_is_missing else type(error)
    return kind("The model's files are missing or damaged; whoever runs this server finds in its log which.")


def _internal() -> InternalError:
    return InternalError("Something went wrong here; the server's log says what.")


def _out_of_memory() -> OutOfMemory:
    return OutOfMemory(
        "There is too little memory for this photo; try a smaller texture, or again when fewer photos wait."
    )

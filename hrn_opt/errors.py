"""What can go wrong, one class each; every message says what was wrong and what to do about it.

`InputError` and its children are the caller's to mend (exit code 2 on the command line, one sentence
on the page); everything else under `HrnOptError` is the machine's or a stop that was asked for.

A front that speaks another language takes the class's name as the key of its sentence and `values` to fill it.
"""


class HrnOptError(Exception):
    """Base of every error this package raises on purpose; `str(error)` is fit to show to a user.

    values: what the sentence is filled with, by name: those of the class's `value_names`, numbers in the unit that the
    name ends in. Where a class has several sentences, "reason" tells them apart.
    """

    value_names: tuple[str, ...] = ()

    def __init__(self, message: str = "", **values: str | int | float):
        super().__init__(message)
        self.values = values


class InputError(HrnOptError):
    """Something handed in cannot be used."""


class PhotoMissing(InputError):
    """There is no photo.

    reason: "none" (no such file), "folder", "special" (a device, a pipe, a link to itself), "not given".
    """

    value_names = ("photo", "reason")


class PhotoEmpty(InputError):
    """The file holds no bytes."""

    value_names = ("photo",)


class PhotoUnreadable(InputError):
    """The bytes are no picture, or a damaged one.

    reason: "damaged", "no picture", "video", "sound", "permission", "range" (floats outside 0..1), "source" (what was
    handed in gives no bytes).
    """

    value_names = ("photo", "reason")


class PhotoFormatUnsupported(InputError):
    """A known kind of file that cannot be read here, which `format` names.

    reason: "kind" (of picture), "mode" (of a PIL image), "raw" (a camera's raw file), "document" (not a picture).
    """

    value_names = ("photo", "reason", "format")


class PhotoTooSmall(InputError):
    """Too few pixels for a face."""

    value_names = ("photo", "width_px", "height_px", "least_px")


class PhotoTooLarge(InputError):
    """More than may be decoded.

    reason: "bytes", "pixels" or "parts" (a JPEG's scans, a TIFF's strips).
    most: how many of them may be; of bytes and pixels in millions.
    """

    value_names = ("photo", "reason", "most")


class PhotoTooCostly(InputError):
    """Opening the photo took more than it may.

    reason: "time", "memory", or "died" (the process that opened it, in the midst of it).
    """

    value_names = ("photo", "reason")


class PhotoArrayInvalid(InputError):
    """An array with the wrong shape, dtype or values."""


class NoFaceFound(InputError):
    """No face in the photo."""


class FaceNotThere(InputError):
    """A face past the last one that was found.

    number: which was asked for, as people count: 1 is the largest, index 0 in Python.
    count: how many were found.
    """

    value_names = ("number", "count")


class FaceUnusable(InputError):
    """A face was found, but nothing like the person could be made of it; the children say why."""


class FaceTooSmall(FaceUnusable):
    """Too few pixels across the face."""

    value_names = ("width_px", "least_px")


class PhotoTooDark(FaceUnusable):
    """Hardly any light on the face. brightness: of its brightest tenth, 0..255."""

    value_names = ("brightness", "least")


class FaceTurnedTooFar(FaceUnusable):
    """One half of the face does not show."""

    value_names = ("yaw_deg", "most_deg")


class OptionInvalid(InputError):
    """An option outside its allowed values; a program's mistake, so that its sentence is for programmers."""


class NotHere(InputError):
    """A result that was never made, is deleted, or is somebody else's."""


class OutputUnwritable(InputError):
    """The output folder or file cannot be written."""


class OutputTaken(OutputUnwritable):
    """A file of that name is there, and is not one that may be replaced."""


class ModelMissing(HrnOptError):
    """The asked-for model is not on this machine."""

    value_names = ("model",)


class ModelDamaged(HrnOptError):
    """A file of the model is not the one that was published."""


class Stopped(HrnOptError):
    """The stop flag was raised; nothing was kept."""


class QueueFull(HrnOptError):
    """More photos are waiting than are taken.

    reason: "all" (of everybody's), "visitor" (of this visitor's) or "address" (of those from this address).
    """

    value_names = ("most_jobs", "reason")


class ShuttingDown(HrnOptError):
    """The server is about to end and takes no photo any more."""


class ProcessDied(HrnOptError):
    """The process that worked on the photo has ended: memory ran out, or it was killed."""


class InternalError(HrnOptError):
    """A fault of ours; the log says which."""


class DeadlinePassed(HrnOptError):
    """The photo was given up after the time that one may take, waiting included."""

    value_names = ("deadline_s",)


class OutOfMemory(HrnOptError):
    """The device's memory, or the machine's, did not suffice."""


class DiskFull(HrnOptError):
    """No room for more photos and results.

    reason: "quota" (of what visitors may have here), "disk" (full, or read-only).
    most_mb: what visitors may have here.
    """

    value_names = ("reason", "most_mb")


class PackError(HrnOptError):
    """A model pack that cannot be used; the children say why."""


class PackIncomplete(PackError):
    """A file or a key of the pack is missing."""


class PackDamaged(PackError):
    """A file of the pack is truncated, or not what its name says."""


class PackForeign(PackError):
    """The files belong to another model."""


class PackDownloadFailed(PackError):
    """The hub did not deliver."""

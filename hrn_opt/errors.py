"""What can go wrong, one class each; every message says what was wrong and what to do about it.

`InputError` and its children are the caller's to mend (exit code 2 on the command line, one sentence
on the page); everything else under `HrnOptError` is the machine's or a stop that was asked for.
"""


class HrnOptError(Exception):
    """Base of every error this package raises on purpose; `str(error)` is fit to show to a user."""


class InputError(HrnOptError):
    """Something handed in cannot be used."""


class PhotoMissing(InputError):
    """The path does not exist, or is a folder."""


class PhotoEmpty(InputError):
    """The file holds no bytes."""


class PhotoUnreadable(InputError):
    """The bytes are no picture, or a damaged one."""


class PhotoFormatUnsupported(InputError):
    """A picture format that this installation has no decoder for."""


class PhotoTooSmall(InputError):
    """Too few pixels for a face."""


class PhotoTooLarge(InputError):
    """More pixels or bytes than may be decoded."""


class PhotoArrayInvalid(InputError):
    """An array with the wrong shape, dtype or values."""


class NoFaceFound(InputError):
    """No face in the photo."""


class FaceNotThere(InputError):
    """A face number past the last face found."""


class OptionInvalid(InputError):
    """An option outside its allowed values."""


class OutputUnwritable(InputError):
    """The output folder or file cannot be written."""


class ModelMissing(HrnOptError):
    """The asked-for model is not on this machine."""


class ModelDamaged(HrnOptError):
    """A file of the model is not the one that was published."""


class Stopped(HrnOptError):
    """The stop flag was raised; nothing was kept."""


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

"""What a file is, told by its first bytes; never by its name, which says what somebody hoped."""

from __future__ import annotations

from hrn_opt.errors import HrnOptError, PhotoFormatUnsupported, PhotoUnreadable

ACCEPTED = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF"
HEAD_BYTES = 512  # enough for every magic number below and for the brands of an ISO media file
_READ = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_BMP_HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)  # of every version; two letters alone begin many texts
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
_AVIF_BRANDS = (b"avif", b"avis")
# Pictures that a program can convert.
_PICTURES = {
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"II\xbc\x01": "JPEG XR",
    b"8BPS": "Photoshop",
    b"8BPB": "Photoshop",
    b"gimp xcf": "GIMP",
    b"\0\0\x01\0": "icon",
    b"icns": "icon",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"<svg": "SVG",
}
_RAW = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb", b"HEAPCCDR")
_VIDEO = (b"\x1a\x45\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
_VIDEO_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip")  # QuickTime files of before the file type box
_SOUND = (b"OggS", b"fLaC", b"ID3", b"MThd", b"#!AMR")
_MPEG_SOUND = (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9")  # layer 3; AAC in ADTS
_DOCUMENTS = {
    b"%PDF": "PDF document",
    b"PK\x03\x04": "ZIP archive or office document",
    b"PK\x05\x06": "ZIP archive or office document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "office document",
    b"Rar!": "RAR archive",
    b"7z\xbc\xaf\x27\x1c": "7-Zip archive",
    b"\x1f\x8b": "gzip archive",
    b"<!doctype html": "web page",
    b"<html": "web page",
    b"<head": "web page",
    b"<body": "web page",
    b"<!--": "web page",
    b"<?xml": "XML document",
}
_RIFF = {b"WEBP": "WEBP", b"AVI ": "video", b"WAVE": "sound", b"RMID": "sound", b"CDXA": "video"}


def kind_of(head: bytes, label: str) -> str:
    """ "JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF" or "HEIF"; an error that names the file's kind otherwise.

    head: the first HEAD_BYTES bytes of the file.
    """
    for magic, kind in _READ.items():
        if head.startswith(magic):
            return kind
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _media_kind(head, label)
    raise _not_read(head, label)


def _media_kind(head: bytes, label: str) -> str:
    """Of an ISO media file: by its major brand, and where that is a general one by those that it suits."""
    if len(head) < 12:  # not even the major brand is whole
        raise damaged(label)
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
    if brands[0] == b"crx ":
        raise raw_photo(label)
    if brands[0] in (b"jxl ", b"jp2 ", b"jpx "):
        raise _picture("JPEG XL" if brands[0] == b"jxl " else "JPEG 2000", label)
    general = brands[0] in (b"mif1", b"msf1", b"miaf", b"mif2")
    for brand in brands if general else brands[:1]:
        if brand in _AVIF_BRANDS:
            return "AVIF"
    if brands[0] in _HEIF_BRANDS or general:
        return "HEIF"
    raise sound(label) if brands[0] in (b"M4A ", b"M4B ", b"M4P ") else video(label)


def _not_read(head: bytes, label: str) -> HrnOptError:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<?xml", b"<!--")) and b"<svg" in start:
        start = b"<svg"
    for magic, name in _PICTURES.items():
        if head.startswith(magic) or start.startswith(magic.lower()):
            return _picture(name, label)
    for magic, name in _DOCUMENTS.items():
        if head.startswith(magic) or start.startswith(magic):
            return document(name, label)
    if head.startswith(_RAW):
        return raw_photo(label)
    riff = _RIFF.get(head[8:12]) if head[:4] in (b"RIFF", b"RIFX") else None
    if riff == "video" or head.startswith(_VIDEO) or head[4:8] in _VIDEO_BOXES:
        return video(label)
    aiff = head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")
    if riff == "sound" or aiff or head.startswith(_SOUND) or head[:2] in _MPEG_SOUND:
        return sound(label)
    if head.startswith((b"\x89PNG", b"GIF8", b"\xff\xd8")):
        return damaged(label)
    return PhotoUnreadable(
        f"{label} is not a picture in a known format; use {ACCEPTED}.", photo=label, reason="no picture"
    )


def damaged(label: str) -> PhotoUnreadable:
    return PhotoUnreadable(
        f"{label} is damaged or cut short; save or download it again.", photo=label, reason="damaged"
    )


def video(label: str) -> PhotoUnreadable:
    return PhotoUnreadable(f"{label} is a video; use a still photo, as {ACCEPTED}.", photo=label, reason="video")


def sound(label: str) -> PhotoUnreadable:
    return PhotoUnreadable(f"{label} is a sound file; use a photo, as {ACCEPTED}.", photo=label, reason="sound")


def document(name: str, label: str) -> PhotoFormatUnsupported:
    return PhotoFormatUnsupported(
        f"{label} is no picture but a file of the kind: {name}; take the photo out of it, as {ACCEPTED}.",
        photo=label,
        reason="document",
        format=name,
    )


def raw_photo(label: str) -> PhotoFormatUnsupported:
    return PhotoFormatUnsupported(
        f"{label} is a camera's raw file, which holds no finished picture; develop it to a JPEG first.",
        photo=label,
        reason="raw",
        format="raw",
    )


def unsupported(what: str, label: str, reason: str = "kind") -> PhotoFormatUnsupported:
    """what: "a TIFF with …"; the kind is known, but not all of its kinds of pixels."""
    return PhotoFormatUnsupported(
        f"{label} is {what}, which cannot be read here; save it as a JPEG or PNG with 8 bits a channel.",
        photo=label,
        reason=reason,
        format=what.split(" ", 1)[1],
    )


def _picture(name: str, label: str) -> PhotoFormatUnsupported:
    return PhotoFormatUnsupported(
        f"{label} is a picture of the kind {name}, which cannot be read here; convert it to JPEG or PNG.",
        photo=label,
        reason="kind",
        format=name,
    )

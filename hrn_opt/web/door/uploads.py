"""What an upload leaves on the disk: counted while it comes, and its part files deleted however it ends."""

from __future__ import annotations

from pathlib import Path

from hrn_opt.web.folders import Quota

# Gradio writes a photo that is still coming to a file of this name in its upload folder, and renames the whole one. It
# deletes the file when the form is wrong, not when the client leaves, the disk is full, or the field has another name.
_PART_FILES = "tmp*"


class Uploads:
    """The uploads that are under way; used from the event loop alone.

    root: Gradio's upload folder.
    """

    def __init__(self, root: Path, quota: Quota):
        self._root = root
        self.quota = quota
        self._under_way: set[Upload] = set()
        self._owners: dict[Path, set[Upload]] = {}  # of each part file: the uploads of which one made it

    def begin(self, promised_bytes: int = 0) -> Upload:
        """promised_bytes: 0 when the client does not say. Raises DiskFull."""
        self.quota.promise(promised_bytes)
        upload = Upload(self, promised_bytes)
        self._under_way.add(upload)
        return upload

    def end(self, upload: Upload) -> None:
        """Deletes the part files that were left by uploads that have all ended."""
        for part in self._root.glob(_PART_FILES):
            if part not in self._owners and part.is_file() and not part.is_symlink():
                self._owners[part] = set(self._under_way)
        self._under_way.discard(upload)
        for part, owners in list(self._owners.items()):
            owners.discard(upload)
            if not owners:
                part.unlink(missing_ok=True)
                del self._owners[part]
            elif not part.exists():
                del self._owners[part]


class Upload:
    """One upload under way."""

    def __init__(self, uploads: Uploads, promised_bytes: int):
        self._uploads = uploads
        self._promised_bytes = promised_bytes

    def arrived(self, count_bytes: int) -> None:
        """Raises DiskFull when there is no room for what nobody announced."""
        expected_bytes = min(count_bytes, self._promised_bytes)
        self._promised_bytes -= expected_bytes
        self._uploads.quota.arrived(count_bytes, expected_bytes)

    def end(self) -> None:
        """Once, when the page has answered or failed."""
        self._uploads.quota.release(self._promised_bytes)
        self._promised_bytes = 0
        self._uploads.end(self)

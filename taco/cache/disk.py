"""A file that keeps its first write error to itself: HDF5 gives several, or crashes, where it cannot write while it closes."""

import io
import os
from pathlib import Path
from typing import Any


class DiskFile(io.FileIO):
    """A new file for HDF5 to write, whose disk may become full.

    After the first refusal what is written is held in memory, so that HDF5 reads back what it wrote and closes in
    peace. The writer looks at `error` and throws the file away.

    Attributes
    ----------
    error : OSError or None
        The first refusal.
    """

    def __init__(self, path: Path):
        super().__init__(path, "w+b")
        self.error: OSError | None = None
        self._held: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """Write all of the data, in as many parts as the system takes."""
        place = self.tell()
        if self.error is None:
            try:
                rest = memoryview(data).cast("B")
                while rest:
                    rest = rest[super().write(rest) :]
                return len(data)
            except OSError as error:
                self.error = error
        self._held.append((place, bytes(data)))
        self.seek(place + len(data))
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Read what was written; zeros where nothing was."""
        if self.error is None:
            return super().readinto(buffer)
        view, place = memoryview(buffer).cast("B"), self.tell()
        count = super().readinto(view)
        view[count:] = bytes(len(view) - count)
        for start, data in self._held:
            low, high = max(start, place), min(start + len(data), place + len(view))
            if low < high:
                view[low - place : high - place] = data[low - start : high - start]
        self.seek(place + len(view))
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; the end is that of all that was written."""
        place = super().seek(offset, whence)
        if whence == os.SEEK_END and self._held:
            place = super().seek(max(place, *(start + len(data) for start, data in self._held)))
        return place

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return self.tell() if size is None else size

"""How much a pipe takes at once, without waiting for its reader."""

from __future__ import annotations

import fcntl
import mmap
import sys
from collections import deque
from typing import Final

_FIONREAD: Final = 0x541B
"""Linux's ioctl for the bytes that nobody has read yet."""

_PAGE: Final = mmap.PAGESIZE


class PipeRoom:
    """Counts a pipe's free pages.

    Linux keeps what is in a pipe in a fixed number of pages, and a write takes at most one
    for each page that it would fill or begin (pipe(7)). A write that fits into free pages is
    done in one go: not even SIGKILL leaves half of it. Elsewhere only `PIPE_BUF` bytes are.

    Attributes:
        is_shared: Whether the pipe holds what somebody else has written, as of the last look.
    """

    def __init__(self, fd: int) -> None:
        """Count the pages of the pipe that this descriptor writes to."""
        self._fd = fd
        self._unread: deque[int] = deque()
        self._size = 0
        self.is_shared = False

    @property
    def capacity(self) -> int:
        """The bytes that an empty pipe takes; 0 if it isn't known. A reader may change it."""
        return fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ) if sys.platform == "linux" else 0

    def add(self, size: int) -> None:
        """So many bytes are written."""
        if sys.platform == "linux":
            self._unread.append(size)
            self._size += size

    def bytes_free(self) -> int:
        """The most bytes that the pipe now takes in one go; 0 if it isn't known."""
        if not (pages := self.capacity // _PAGE):
            return 0
        answer = fcntl.ioctl(self._fd, _FIONREAD, bytes(4))
        unread = int.from_bytes(answer, sys.byteorder)
        # What was written first is read first, and holds no page then.
        while self._unread and self._size - self._unread[0] >= unread:
            self._size -= self._unread.popleft()
        self.is_shared = self._size < unread
        if self.is_shared:
            return 0
        used = sum(-(-size // _PAGE) for size in self._unread)
        return max(pages - used, 0) * _PAGE

"""What folders of results need: files that are whole or not there, and one owner at a time."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Generator
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@contextlib.contextmanager
def locked(folder: Path, in_use: Exception) -> Generator[None]:
    """Keeps a second process from working in a folder; the lock goes when the process does.

    Args:
        folder: Must exist.
        in_use: Raised if another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise in_use from None
        yield
    finally:
        os.close(descriptor)

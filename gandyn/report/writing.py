"""Text into a file, at once: what the report and the page are written by."""

import os
from pathlib import Path


def put(text: str, path: str | os.PathLike[str]) -> Path:
    """Writes a file, and returns its path. Its folder is made where it is lacking; a file that is there is replaced.

    Who reads it while it is written never sees half of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # in a folder from elsewhere it might be a link to somewhere else
    with partial.open("x", encoding="utf-8", errors="replace") as file:
        file.write(text)
    partial.replace(path)
    return path

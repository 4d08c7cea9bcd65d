"""Text for whoever reads it over a thin link: compressed, where the reader says that it can undo it."""

from __future__ import annotations

import gzip

LEAST_BYTES = 1000  # shorter ones gain nothing
LEVEL = 6


def packed(body: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
    """``body`` as it goes out, and the headers that say how. ``accepted``: the request's Accept-Encoding."""
    names = {
        part.split(";")[0].strip().lower() for part in accepted.split(",") if "q=0" not in part.replace(" ", "").split(";")
    }
    if "gzip" not in names or len(body) < LEAST_BYTES:
        return body, {}
    return gzip.compress(body, LEVEL, mtime=0), {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}

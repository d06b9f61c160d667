"""What is about to fail, noted before layers change in a store of observations of its own.

Such a store has the new layers before the books are committed. A review killed in between finds its layers made when it
is repeated: without the note nobody would tell the alerts. The note is taken off in the transaction that tells them.
"""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from cloud_ingest.book_tables import to_tell
from cloud_ingest.columns import ARRIVAL_DTYPE, Arrivals


def noted(books: Connection, station: str) -> Arrivals:
    """Return what is noted of a station and not told yet; the same may be in it twice."""
    blobs = books.scalars(select(to_tell.c.rows).where(to_tell.c.station == station).order_by(to_tell.c.id))
    return np.concatenate([np.zeros(0, ARRIVAL_DTYPE), *(np.frombuffer(blob, ARRIVAL_DTYPE) for blob in blobs)])


def note(books: Connection, station: str, rows: Arrivals) -> bool:
    """Note what is not noted yet; return whether all of it was."""
    new = rows[~np.isin(_places(rows), _places(noted(books, station)))]
    if len(new):
        books.execute(insert(to_tell).values(station=station, rows=new.tobytes()))
    return not len(new)


def take(books: Connection, station: str, rows: Arrivals) -> Arrivals:
    """Take a station's notes off; return what is to be told, by time: these rows, and what only the notes have."""
    known = noted(books, station)
    if len(known):
        books.execute(delete(to_tell).where(to_tell.c.station == station))
    both = np.concatenate([rows, known])
    _, first = np.unique(_places(both), return_index=True)
    both = both[first]
    return both[np.argsort(both["time"], kind="stable")]


def _places(rows: Arrivals) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return series and time of each row as one number."""
    return (rows["series"].astype(np.uint64) << np.uint64(32)) | rows["time"].astype(np.uint64)

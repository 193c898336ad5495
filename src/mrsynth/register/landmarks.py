"""The part of the body that a spine registration should look at."""

import numpy as np


def region(record: dict) -> np.ndarray | None:
    """Points [n, 3] of the spine in the CT's frame (LPS mm) from a landmark record; None without
    any."""
    found = [disc["centre_mm"] for disc in record.get("discs") or []]
    found += list(record.get("canal") or [])
    return np.array(found, float) if found else None


def aim(record: dict) -> np.ndarray | None:
    """Where stacks of a lumbar examination most likely lie: the discs' mean (LPS mm); None without
    discs, since the canal's mean follows the CT's length and not the spine's."""
    found = [disc["centre_mm"] for disc in record.get("discs") or []]
    return np.mean(found, axis=0) if found else None

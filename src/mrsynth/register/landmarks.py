"""The part of the body that a spine registration should look at."""

import numpy as np


def region(record: dict) -> np.ndarray | None:
    """Points [n, 3] of the spine in the CT's frame (LPS mm) from a landmark record; None without
    any."""
    found = [disc["centre_mm"] for disc in record.get("discs") or []]
    found += list(record.get("canal") or [])
    return np.array(found, float) if found else None

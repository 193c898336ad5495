"""How far a registration can be believed. Similarity alone proves nothing, so several signs are
weighed."""

import numpy as np
from scipy.spatial.transform import Rotation

from mrsynth.register.search import closest_rotation
from mrsynth.register.settings import Settings


def displacement(one: np.ndarray, other: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Distance [n] between the images of points [n, 3] under two poses, mm."""
    difference = one - other
    return np.linalg.norm(world @ difference[:3, :3].T + difference[:3, 3], axis=1)


def motion(pose: np.ndarray, world: np.ndarray) -> dict:
    """How far a pose turns and moves the samples (a header that is right would give zeros)."""
    angle = Rotation.from_matrix(closest_rotation(pose[:3, :3])).magnitude()
    return {
        "rotation_deg": float(np.degrees(angle)),
        "displacement_mm": float(np.median(displacement(pose, np.eye(4), world))),
    }


def judge(measures: dict, settings: Settings) -> tuple[str, list[str]]:
    """Verdict and its reasons.

    Args:
        measures: ``mi``, ``overlap``, ``rival``, ``repeat_mm``, ``peak``; a missing or null one is
            not weighed.
        settings: Thresholds.

    Returns:
        ``failed`` where nothing was found at all, ``review`` where a sign speaks against the
        result, else ``accepted``; and the reasons in words.
    """
    if not np.isfinite(measures.get("mi") or np.nan) or measures["mi"] < settings.fail_mi:
        return "failed", [f"no common information (below {settings.fail_mi} nats)"]
    if measures["overlap"] < settings.min_overlap:
        return "failed", [f"overlap {measures['overlap']:.2f} below {settings.min_overlap}"]
    signs = [
        ("overlap", measures["overlap"] < settings.accept_overlap, "small overlap"),
        (
            "rival",
            _above(measures, "rival", settings.accept_rival),
            "another start is nearly as good",
        ),
        (
            "repeat_mm",
            _above(measures, "repeat_mm", settings.accept_repeat_mm),
            "two halves of the samples disagree",
        ),
        ("peak", _below(measures, "peak", settings.accept_peak), "a perturbed pose is better"),
        ("limit", bool(measures.get("at_limit")), "the stack moved to the limit of its search"),
    ]
    reasons = [
        f"{text} ({key} {measures[key]:.2f})" if key in measures else text
        for key, bad, text in signs
        if bad
    ]
    return ("review" if reasons else "accepted"), reasons


def _above(measures: dict, key: str, limit: float) -> bool:
    value = measures.get(key)
    return value is not None and not value <= limit


def _below(measures: dict, key: str, limit: float) -> bool:
    value = measures.get(key)
    return value is not None and not value >= limit

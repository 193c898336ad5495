"""How far a registration can be believed. Similarity alone proves nothing, so several signs are
weighed."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mrsynth.register.search import closest_rotation
from mrsynth.register.settings import Settings


@dataclass(frozen=True)
class Gate:
    """A sign that must hold for a result to be accepted.

    Attributes:
        key: Measure.
        limit: Setting that holds the threshold.
        most: True if the measure must not be above it, False if not below.
        text: What is said of a result that breaks it.
    """

    key: str
    limit: str
    most: bool
    text: str

    def passes(self, value: float, limit: float) -> bool:
        """Whether a value holds; one that is not a number does not."""
        return bool(value <= limit if self.most else value >= limit)


GATES = (
    Gate("overlap", "accept_overlap", False, "small overlap"),
    Gate("rival", "accept_rival", True, "another start is nearly as good"),
    Gate("restart_mm", "accept_restart_mm", True, "turned and shifted starts end elsewhere"),
    Gate("mirror", "accept_mirror", True, "the mirror image fits nearly as well"),
    Gate("mirror_whole", "accept_mirror_whole", True, "the mirror image fits nearly as well"),
    Gate("sharpness", "accept_sharpness", False, "neighbouring poses fit nearly as well"),
    Gate(
        "sharpness_whole", "accept_sharpness_whole", False, "neighbouring poses fit nearly as well"
    ),
    Gate("inverse_mm", "accept_inverse_mm", True, "the two directions disagree"),
    Gate("repeat_mm", "accept_repeat_mm", True, "two halves of the samples disagree"),
    Gate("peak", "accept_peak", False, "a perturbed pose is better"),
    Gate("bone_mm", "accept_bone_mm", True, "bone does not lie on bone"),
)
"""All of them, in the order in which they are told."""


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


def gates(measures: dict, settings: Settings) -> list[dict]:
    """Every sign that is weighed: ``measure``, ``value``, ``limit``, ``side`` (``most``: the value
    may be at most the limit, ``least``: at least) and whether it is ``passed``."""
    known = (
        Gate("mi", "fail_mi", False, "no common information"),
        Gate("overlap", "min_overlap", False, "the fields hardly meet"),
        *GATES,
    )
    found = []
    for gate in known:
        value, limit = measures.get(gate.key), getattr(settings, gate.limit)
        if value is not None:
            found.append(
                {
                    "measure": gate.key,
                    "value": value,
                    "limit": limit,
                    "side": "most" if gate.most else "least",
                    "passed": gate.passes(value, limit),
                }
            )
    return found


def judge(measures: dict, settings: Settings) -> tuple[str, list[str]]:
    """Verdict and its reasons.

    Args:
        measures: ``mi``, ``overlap`` and the other keys of :data:`GATES`; a missing or null one is
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
    reasons = []
    for gate in GATES:
        value, limit = measures.get(gate.key), getattr(settings, gate.limit)
        if value is not None and not gate.passes(value, limit):
            side = "above" if gate.most else "below"
            reasons.append(f"{gate.text} ({gate.key} {value:.2f}, {side} {limit:g})")
    if measures.get("at_limit"):
        reasons.append("the stack moved to the limit of its search")
    return ("review" if reasons else "accepted"), reasons

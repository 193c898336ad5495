"""Measures of a registration beside their thresholds, and which of them is weakest."""

SHARES = ("overlap", "peak")
"""Measures from 0 to 1, where the distance from 1 tells how weak they are."""


KEYS = ("measure", "value", "limit", "side", "passed")


def gates(measures: dict) -> list[dict]:
    """Measures with thresholds from `register`'s record: ``measure, value, limit, side`` (``most``
    or ``least``), ``passed``."""
    return [{key: gate.get(key) for key in KEYS} for gate in measures.get("gates") or []]


def strain(gate: dict) -> float:
    """How near a measure comes to its threshold: 0 is perfect, 1 at it, above 1 beyond it."""
    value, limit = gate.get("value"), gate.get("limit")
    if value is None or limit is None:
        return 0.0
    if gate["side"] == "most":
        return float(value / limit) if limit > 0 else float(value > limit) * 2
    if gate["measure"] in SHARES and limit < 1:
        return float((1 - value) / (1 - limit))
    return float(limit / value) if value > 0 else 2.0

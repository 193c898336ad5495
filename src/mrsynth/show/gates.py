"""Measures of a registration beside their thresholds, and which of them is weakest."""

FALLBACK = {
    "mi": ("fail_mi", "least"),
    "overlap": ("accept_overlap", "least"),
    "rival": ("accept_rival", "most"),
    "repeat_mm": ("accept_repeat_mm", "most"),
    "peak": ("accept_peak", "least"),
}
"""Measure → setting of `register` with its threshold and which side of it is good, for records
that hold no ``gates`` of their own."""

SHARES = ("overlap", "peak")
"""Measures from 0 to 1, where the distance from 1 tells how weak they are."""


def gates(measures: dict, thresholds: dict) -> list[dict]:
    """Measures with thresholds: ``measure, value, limit, side`` (most or least), ``passed``.

    Args:
        measures: From `register`'s record; its own ``gates`` are taken where it has them.
        thresholds: Settings of `register`, otherwise.
    """
    if measures.get("gates"):
        return [
            {key: gate.get(key) for key in ("measure", "value", "limit", "side", "passed")}
            for gate in measures["gates"]
        ]
    found = []
    for measure, (setting, side) in FALLBACK.items():
        value, limit = measures.get(measure), thresholds.get(setting)
        if value is None or limit is None:
            continue
        good = value >= limit if side == "least" else value <= limit
        gate = {"measure": measure, "value": float(value), "limit": float(limit), "side": side}
        found.append(gate | {"passed": bool(good)})
    return found


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

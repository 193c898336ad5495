"""How the patient lies: the rigid motion after which the spine stands upright and looks ahead."""

import numpy as np

from mrsynth.geometry import rigid_from_axis, unit
from mrsynth.locate.column import Column, evenly

# Share of the canal's length, from above, whose course is the spine's: below it the sacrum turns
# to the back.
LUMBAR = 0.85
# Room around the canal that holds bodies, alae, transverse processes and the ribs' necks, mm to
# the sides, ahead, to the back, and beyond its ends.
SIDE_MM, AHEAD_MM, BACK_MM, BEYOND_MM = 90.0, 105.0, 70.0, 80.0
# Turns that are tried where the patient lies too obliquely for the canal to be seen: about the
# axes to the left and to the back, degrees. With the reach of the search itself (some 20°) they
# cover 40°.
TURNS = ((1, 0, 0, 25.0), (1, 0, 0, -25.0), (0, 1, 0, 25.0), (0, 1, 0, -25.0))


def upright_motion(canal: np.ndarray, column: Column) -> np.ndarray:
    """Rigid 4×4 in LPS mm that turns the spine's mean course to z and its front to −y.

    Args:
        canal: The canal's centre line (n, 3), cranial to caudal.
        column: The bodies in front of it.
    """
    line = evenly(canal)
    last = max(int(LUMBAR * len(line)), 2) - 1
    up = unit(line[0] - line[last])
    middle = line[last // 2]
    near = np.linalg.norm(column.points[:, None] - line[None, : last + 1 : 4], axis=2).min(axis=1)
    inner = near <= np.median(near) + 5.0
    ahead = np.median(column.ahead[inner], axis=0)
    ahead = unit(ahead - up * (ahead @ up))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.cross(up, ahead), -ahead, up])
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle
    return matrix


def around(canal: np.ndarray) -> np.ndarray:
    """Box (2, 3) in mm that holds the spine around a canal that stands upright."""
    low = canal.min(0) - np.array([SIDE_MM, AHEAD_MM, BEYOND_MM])
    high = canal.max(0) + np.array([SIDE_MM, BACK_MM, BEYOND_MM])
    return np.stack([low, high])


def trial_turns(centre: np.ndarray) -> list[np.ndarray]:
    """Rigid motions (4×4) about the scan's centre to try for a patient who lies obliquely."""
    return [rigid_from_axis(turn[:3], turn[3], centre) for turn in TURNS]

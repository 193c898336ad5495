"""Planes, frames and rigid motions in LPS mm.

Points are arrays (..., 3) in the order x, y, z (left, posterior, superior); matrices are 4×4 and
act on column vectors, so that ``apply(b @ a, p) == apply(b, apply(a, p))``.
"""

import numpy as np

# Tukey's biweight keeps 95 % of the efficiency of least squares on clean data at 4.685 robust
# sigmas.
TUKEY_SIGMAS = 4.685
# Turns a median absolute deviation into the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826


def unit(vector: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length one.

    Raises:
        ValueError: If one of them has no length.
    """
    vector = np.asarray(vector, dtype=float)
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    if np.any(length == 0):
        raise ValueError("a vector of length zero has no direction")
    return vector / length


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) moved by a 4×4 matrix."""
    points = np.asarray(points, dtype=float)
    return points @ np.asarray(matrix)[:3, :3].T + np.asarray(matrix)[:3, 3]


def apply_direction(matrix: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Unit plane normals (..., 3) moved by a 4×4 matrix.

    Normals go with the inverse transpose of the linear part, so that an affine keeps them normal to
    the moved plane; for a rigid matrix this is its rotation.
    """
    inverse = np.linalg.inv(np.asarray(matrix, dtype=float)[:3, :3])
    return unit(np.asarray(directions, dtype=float) @ inverse)


def angle_deg(first: np.ndarray, second: np.ndarray, oriented: bool = False) -> np.ndarray | float:
    """Angle between directions (..., 3) in degrees.

    Args:
        first: Directions, any length.
        second: Directions, any length.
        oriented: False takes them as normals of planes (0 to 90), True as arrows (0 to 180).
    """
    first, second = unit(first), unit(second)
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    cosine = np.sum(first * second, axis=-1)
    # The arc tangent keeps its accuracy at small angles, where the arc cosine loses half the
    # digits.
    return np.degrees(np.arctan2(sine, cosine if oriented else np.abs(cosine)))


def fit_plane(
    points: np.ndarray,
    towards: np.ndarray | None = None,
    robust: bool = True,
    least_sigma_mm: float = 1e-6,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plane through points (n, 3) by total least squares, with Tukey's biweight against outliers.

    Args:
        points: At least three points that aren't on one line.
        towards: The normal is turned to have a positive product with this direction.
        robust: False gives the plain least-squares plane.
        least_sigma_mm: Unevenness of the surface itself; points within a few of it aren't outliers.

    Returns:
        Weighted centroid (3,), unit normal (3,) and weights (n,) in 0..1 (0 is an outlier).

    Raises:
        ValueError: If the points define no plane.
    """
    points = np.asarray(points, dtype=float)
    if len(points) < 3:
        raise ValueError(f"a plane needs three points, not {len(points)}")
    weights = np.ones(len(points))
    for turn in range(30 if robust else 1):
        centre = np.average(points, axis=0, weights=weights)
        offsets = points - centre
        values, vectors = np.linalg.eigh((offsets * weights[:, None]).T @ offsets)
        if values[1] <= 1e-12 * max(values[2], 1.0):
            raise ValueError("points on one line define no plane")
        normal = vectors[:, 0]
        if not robust:
            break
        distance = offsets @ normal
        distance = distance - np.median(distance)
        scale = max(MAD_TO_SIGMA * np.median(np.abs(distance)), least_sigma_mm)
        if turn < 10:
            # Least absolute deviations first: the biweight needs a start that outliers don't tilt.
            weights = scale / np.maximum(np.abs(distance), 0.1 * scale)
            continue
        updated = np.clip(1 - (distance / (TUKEY_SIGMAS * scale)) ** 2, 0, None) ** 2
        if np.count_nonzero(updated) < 3 or np.max(np.abs(updated - weights)) < 1e-4:
            break
        weights = updated
    if towards is not None and normal @ np.asarray(towards) < 0:
        normal = -normal
    return centre, normal, weights


def frame(normal: np.ndarray, hint: np.ndarray) -> np.ndarray:
    """Right-handed orthonormal axes (3, 3 rows): along the hint in the plane, across it, and the
    normal.

    Args:
        normal: The plane's normal.
        hint: A direction that isn't parallel to the normal; its part in the plane is the first
            axis.
    """
    normal = unit(normal)
    first = unit(np.asarray(hint, dtype=float) - normal * (normal @ np.asarray(hint)))
    return np.stack([first, np.cross(normal, first), normal])


def project_to_plane(points: np.ndarray, centre: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Feet of the perpendiculars from points (..., 3) on a plane."""
    points, normal = np.asarray(points, dtype=float), unit(normal)
    return points - ((points - centre) @ normal)[..., None] * normal


def cross_polyline(line: np.ndarray, centre: np.ndarray, normal: np.ndarray) -> np.ndarray | None:
    """Where a polyline (n, 3) crosses a plane; the crossing nearest to ``centre``, or None."""
    line = np.asarray(line, dtype=float)
    height = (line - centre) @ unit(normal)
    steps = np.flatnonzero((height[:-1] <= 0) != (height[1:] <= 0))
    if len(steps) == 0:
        return None
    part = (height[steps] / (height[steps] - height[steps + 1]))[:, None]
    crossings = line[steps] + part * (line[steps + 1] - line[steps])
    return crossings[np.argmin(np.linalg.norm(crossings - centre, axis=1))]


def rigid_from_points(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """The 4×4 rotation and shift that brings points ``fixed`` (n, 3) nearest to ``moving`` (n, 3).

    Least squares by singular values (Kabsch 1976, with Umeyama's sign, 1991); never a reflection.

    Raises:
        ValueError: If there are fewer than three points.
    """
    fixed, moving = np.asarray(fixed, dtype=float), np.asarray(moving, dtype=float)
    if len(fixed) < 3 or fixed.shape != moving.shape:
        raise ValueError("a rigid motion needs the same three or more points twice")
    centre_fixed, centre_moving = fixed.mean(0), moving.mean(0)
    u, _, vt = np.linalg.svd((moving - centre_moving).T @ (fixed - centre_fixed))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre_moving - turn @ centre_fixed
    return matrix


def rotation_deg(matrix: np.ndarray) -> float:
    """Angle of the rotation in a rigid 4×4 matrix, in degrees."""
    turn = np.asarray(matrix)[:3, :3]
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return float(np.degrees(np.arctan2(np.linalg.norm(axis), np.trace(turn) - 1)))


def rigid_from_axis(
    axis: np.ndarray,
    degrees: float,
    centre: np.ndarray = (0.0, 0.0, 0.0),
    shift: np.ndarray = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """4×4 rotation about an axis through ``centre`` (Rodrigues), then a shift in mm."""
    x, y, z = unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = np.asarray(centre) - turn @ np.asarray(centre) + np.asarray(shift)
    return matrix

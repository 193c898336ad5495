"""Planes, frames and rigid motions against their definitions."""

import numpy as np
import pytest

from mrsynth import geometry


def plane_points(rng, normal, centre, count=200, noise=0.0):
    axes = geometry.frame(normal, [0.3, 1.0, 0.2])
    along = rng.uniform(-15, 15, (count, 2))
    return centre + along @ axes[:2] + rng.normal(0, noise, (count, 1)) * axes[2]


def test_plane_is_found_and_turned_towards_the_hint():
    rng = np.random.default_rng(0)
    normal, centre = geometry.unit([0.2, -0.5, 0.9]), np.array([10.0, -30.0, 400.0])
    points = plane_points(rng, normal, centre, noise=0.2)
    at, found, _ = geometry.fit_plane(points, towards=[0, 0, -1])
    assert found @ normal < 0
    assert geometry.angle_deg(found, normal) < 0.5
    assert abs((at - centre) @ normal) < 0.1


def test_robust_plane_ignores_a_fifth_of_outliers_and_the_plain_one_does_not():
    rng = np.random.default_rng(1)
    normal, centre = geometry.unit([0.0, 0.4, 1.0]), np.zeros(3)
    points = plane_points(rng, normal, centre, noise=0.2)
    wrong = (points[:, 1] > np.percentile(points[:, 1], 70)) & (rng.random(len(points)) < 0.66)
    points[wrong] += 8.0 * normal
    _, robust, weights = geometry.fit_plane(points, towards=normal)
    _, plain, _ = geometry.fit_plane(points, towards=normal, robust=False)
    assert geometry.angle_deg(robust, normal) < 1.0
    assert geometry.angle_deg(plain, normal) > 5.0
    assert weights[wrong].max() < 0.01


@pytest.mark.parametrize("points", [np.zeros((2, 3)), np.outer(np.arange(5.0), [1, 2, 3])])
def test_no_plane_through_two_points_or_a_line(points):
    with pytest.raises(ValueError, match="plane"):
        geometry.fit_plane(points)


def test_angle_of_planes_and_of_arrows():
    up, tilted = np.array([0, 0, 1.0]), np.array([0, np.sin(0.1), np.cos(0.1)])
    assert geometry.angle_deg(up, -tilted) == pytest.approx(np.degrees(0.1))
    assert geometry.angle_deg(up, -tilted, oriented=True) == pytest.approx(180 - np.degrees(0.1))
    assert geometry.angle_deg(up, [0, 1e-6, 1]) == pytest.approx(np.degrees(1e-6))


def test_frame_is_right_handed_with_the_left_second_for_an_upright_patient():
    axes = geometry.frame([0, 0, 1], [0, -1, 0.4])
    assert np.linalg.det(axes) == pytest.approx(1)
    np.testing.assert_allclose(axes[0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(axes[1], [1, 0, 0], atol=1e-12)


def test_rigid_motion_is_recovered_from_points():
    rng = np.random.default_rng(2)
    matrix = geometry.rigid_from_axis([1, 2, -1], 35.0, centre=[5, 5, 5], shift=[10, -20, 300])
    points = rng.normal(0, 30, (12, 3))
    found = geometry.rigid_from_points(points, geometry.apply(matrix, points))
    np.testing.assert_allclose(found, matrix, atol=1e-9)
    assert geometry.rotation_deg(found) == pytest.approx(35.0)


def test_rigid_motion_from_mirrored_points_is_no_reflection():
    rng = np.random.default_rng(3)
    points = rng.normal(0, 30, (12, 3))
    found = geometry.rigid_from_points(points, points * [-1, 1, 1])
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


def test_normals_stay_normal_under_an_affine():
    matrix = np.eye(4)
    matrix[:3, :3] = [[1.0, 0.0, 0.5], [0.0, 2.0, 0.0], [0.0, 0.3, 1.0]]
    normal = geometry.unit([0.2, 0.3, 1.0])
    in_plane = geometry.frame(normal, [1, 0, 0])[:2]
    moved = geometry.apply(matrix, in_plane) - geometry.apply(matrix, np.zeros((2, 3)))
    np.testing.assert_allclose(moved @ geometry.apply_direction(matrix, normal), [0, 0], atol=1e-12)


def test_polyline_crosses_plane_between_its_points():
    line = np.array([[0, 0, 10.0], [2, 0, 2.0], [4, 0, -6.0]])
    crossing = geometry.cross_polyline(line, np.array([50.0, 0, 0]), np.array([0, 0, 1.0]))
    np.testing.assert_allclose(crossing, [2.5, 0, 0])
    assert geometry.cross_polyline(line, np.array([0, 0, 99.0]), np.array([0, 0, 1.0])) is None


def test_a_vector_without_length_is_refused():
    with pytest.raises(ValueError, match="length zero"):
        geometry.unit([0, 0, 0])

"""Bodies of random tissues for tests of registration, seen by CT and, with other greys, by MR."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrsynth.volume import from_array

HU = (-1000, -90, 50, 350)
SIGNAL = (5, 220, 90, 30)


class Body:
    """A body of random tissues (smooth blobs in 3D), seen by CT and, with other greys, by MR."""

    def __init__(self, seed: int = 0):
        generator = np.random.default_rng(seed)
        self.half = np.array([70.0, 55.0, 80.0])
        noise = ndimage.gaussian_filter(generator.standard_normal((84, 64, 78)), 3.2)
        self.noise = noise / noise.std()

    def tissue(self, world: np.ndarray) -> np.ndarray:
        """0 air, 1 fat, 2 muscle, 3 bone at points of the body's frame, LPS mm."""
        place = ((world + np.array([78, 64, 84])) / 2)[..., ::-1]
        blob = ndimage.map_coordinates(self.noise, np.moveaxis(place, -1, 0), order=1)
        inside = (np.abs(world / self.half) ** 4).sum(-1) < 1
        return np.where(inside, 1 + (blob > -0.3) + (blob > 0.9), 0)

    def image(self, values, grid: sitk.Image, pose: np.ndarray, blur=0.0, seed=1) -> sitk.Image:
        """The body on a grid; ``pose`` maps the grid's points to the body's frame."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.GetSize()], indexing="ij"), -1)
        steps = np.array(grid.GetDirection()).reshape(3, 3) * np.array(grid.GetSpacing())
        world = index @ steps.T + np.array(grid.GetOrigin())
        tissue = self.tissue(world @ pose[:3, :3].T + pose[:3, 3])
        array = np.array(values, np.float32)[tissue].transpose(2, 1, 0)
        noise = np.random.default_rng(seed).standard_normal(array.shape)
        result = sitk.GetImageFromArray((array + blur * noise).astype(np.float32))
        result.CopyInformation(grid)
        return result


def box(size, spacing, origin, direction=None) -> sitk.Image:
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if direction is None else direction) * np.array(spacing)
    matrix[:3, 3] = origin
    return from_array(np.zeros(size[::-1], np.float32), matrix)


def rigid(rotvec_deg, shift) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(np.radians(rotvec_deg)).as_matrix()
    pose[:3, 3] = shift
    return pose

"""Refinement by other programs: SimpleITK's and ANTs' mutual information, behind one function."""

import os
import tempfile

import numpy as np
import SimpleITK as sitk

from mrsynth.errors import StudyError
from mrsynth.register.settings import Settings
from mrsynth.volume import to_array
from mrsynth.warp import linear_matrix, transform_of

SHARE = 0.2
"""Share of the masked voxels that SimpleITK samples."""

ITERATIONS = 100

SMALL = {
    "rigid": sitk.VersorRigid3DTransform,
    "similarity": sitk.Similarity3DTransform,
    "affine": lambda: sitk.AffineTransform(3),
}
"""SimpleITK's transform of each kind."""

ANTS = {"rigid": "Rigid", "similarity": "Similarity", "affine": "Affine"}
"""ANTs' name of each kind."""


def engine_pose(
    fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image, start: np.ndarray, settings: Settings
) -> np.ndarray:
    """Refine a pose with the engine that the settings name.

    Args:
        fixed: Fixed image.
        moving: Moving image, CT already clipped to its window.
        mask: Where the fixed image counts (uint8).
        start: 4×4, fixed→moving, LPS mm.
        settings: Engine, transform, levels and seed.

    Returns:
        4×4, fixed→moving.

    Raises:
        RuntimeError: The engine failed.
        StudyError: The engine is not installed.
    """
    run = {"simpleitk": _simpleitk, "ants": _ants}[settings.engine]
    return run(fixed, moving, mask, start, settings)


def _simpleitk(fixed, moving, mask, start, settings) -> np.ndarray:
    mask = sitk.Resample(mask, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
    pose = start
    kinds = ["rigid", settings.transform] if settings.transform != "rigid" else ["rigid"]
    for kind in kinds:
        method = sitk.ImageRegistrationMethod()
        if settings.deterministic:
            # Threads add up the metric in the order in which they end.
            method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricFixedMask(mask)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(SHARE, settings.seed)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsConjugateGradientLineSearch(1.0, ITERATIONS, 1e-6, 10)
        method.SetOptimizerScalesFromPhysicalShift()
        spacing = min(fixed.GetSpacing())
        factors = [max(1, round(level / spacing)) for level in settings.levels_mm]
        # A factor must leave a thick stack its slices.
        factors = [min(factor, max(1, min(fixed.GetSize()) // 4)) for factor in factors]
        method.SetShrinkFactorsPerLevel(factors)
        method.SetSmoothingSigmasPerLevel([0.5 * level for level in settings.levels_mm])
        method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
        base = transform_of(pose)
        small = SMALL[kind]()
        small.SetCenter(
            fixed.TransformContinuousIndexToPhysicalPoint(
                ((np.array(fixed.GetSize()) - 1) / 2).tolist()
            )
        )
        method.SetMovingInitialTransform(base)
        method.SetInitialTransform(small, inPlace=True)
        method.Execute(fixed, moving)
        pose = pose @ linear_matrix(small)
    return pose


def _ants(fixed, moving, mask, start, settings) -> np.ndarray:
    if settings.deterministic:
        # ITK inside ANTs reads this when it is loaded; threads add up the metric as they end.
        os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    try:
        import ants
    except ImportError as error:
        raise StudyError(
            "register.engine is 'ants', but antspyx is not installed; use engine sampled or "
            "simpleitk, or install antspyx."
        ) from error
    mask = sitk.Resample(mask, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
    # The seed reaches antsRegistration by this alone; `on` would refuse every transform but one
    # family of deformations.
    ants.config.set_ants_deterministic(on=False, seed_value=settings.seed)
    with tempfile.TemporaryDirectory(prefix="mrsynth-ants-") as folder:
        first = os.path.join(folder, "start.mat")
        # ANTs reads ITK's matrix files; .mat keeps double precision.
        sitk.WriteTransform(transform_of(start), first)
        result = ants.registration(
            _to_ants(ants, fixed),
            _to_ants(ants, moving),
            type_of_transform=ANTS[settings.transform],
            initial_transform=[first],
            mask=_to_ants(ants, sitk.Cast(mask, sitk.sitkFloat32)),
            aff_random_sampling_rate=SHARE,
            singleprecision=False,
            outprefix=os.path.join(folder, "out"),
        )
        pose = np.eye(4)
        # ANTs lists transforms in the order of its arguments, the last applied to a point first.
        for path in reversed(result["fwdtransforms"]):
            pose = linear_matrix(sitk.ReadTransform(path)) @ pose
    if not np.all(np.isfinite(pose)):
        raise RuntimeError("ANTs gave a transform that is not finite")
    return pose


def _to_ants(ants, image: sitk.Image):
    """The image in ANTs' order of axes (x, y, z)."""
    return ants.from_numpy(
        to_array(sitk.Cast(image, sitk.sitkFloat32)).transpose(2, 1, 0).copy(),
        origin=list(image.GetOrigin()),
        spacing=list(image.GetSpacing()),
        direction=np.array(image.GetDirection()).reshape(3, 3),
    )

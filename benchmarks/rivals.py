"""Rigid and affine registration by other programs, each with its own start and defaults, behind one
signature: fixed image, moving image, seed → 4×4 of fixed to moving points (LPS mm)."""

import os
import tempfile

import numpy as np
import SimpleITK as sitk

from mrsynth.register import register
from mrsynth.volume import to_array
from mrsynth.warp import linear_matrix


def ours(fixed, moving, seed: int) -> np.ndarray:
    return register(fixed, moving, seed=seed).matrix


def ants_rigid(fixed, moving, seed: int) -> np.ndarray:
    return _ants(fixed, moving, seed, "Rigid")


def ants_affine(fixed, moving, seed: int) -> np.ndarray:
    return _ants(fixed, moving, seed, "Affine")


def _ants(fixed, moving, seed: int, kind: str) -> np.ndarray:
    import ants

    def to_ants(image):
        return ants.from_numpy(
            to_array(image).transpose(2, 1, 0).copy(),
            origin=list(image.GetOrigin()),
            spacing=list(image.GetSpacing()),
            direction=np.array(image.GetDirection()).reshape(3, 3),
        )

    # The only way to antsRegistration's seed; its check for deformations stays off.
    ants.config.set_ants_deterministic(on=False, seed_value=seed)
    found = ants.registration(to_ants(fixed), to_ants(moving), kind)
    return linear_matrix(sitk.ReadTransform(found["fwdtransforms"][0]))


def elastix_rigid(fixed, moving, seed: int) -> np.ndarray:
    """elastix's default parameters for rigid registration, started at the fields' centres."""
    import itk

    with tempfile.TemporaryDirectory() as folder:
        images = []
        for name, image in (("fixed", fixed), ("moving", moving)):
            path = os.path.join(folder, f"{name}.mha")
            sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), path)
            images.append(itk.imread(path, itk.F))
    parameters = itk.ParameterObject.New()
    chosen = parameters.GetDefaultParameterMap("rigid")
    chosen["AutomaticTransformInitialization"] = ["true"]
    chosen["RandomSeed"] = [str(1000 + seed)]
    parameters.AddParameterMap(chosen)
    _, result = itk.elastix_registration_method(*images, parameter_object=parameters)
    found = result.GetParameterMap(0)
    transform = sitk.Euler3DTransform()
    transform.SetFixedParameters([*map(float, found["CenterOfRotationPoint"]), 0.0])
    transform.SetParameters([float(value) for value in found["TransformParameters"]])
    return linear_matrix(transform)


def simpleitk_rigid(fixed, moving, seed: int) -> np.ndarray:
    """SimpleITK's Mattes information on three levels, as its examples do it."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed + 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    start = sitk.CenteredTransformInitializer(
        fixed,
        moving,
        sitk.Euler3DTransform(),
        sitk.CenteredTransformInitializerFilter.GEOMETRY,
    )
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return linear_matrix(start)


METHODS = {
    "ours": ours,
    "ants-rigid": ants_rigid,
    "ants-affine": ants_affine,
    "elastix-rigid": elastix_rigid,
    "simpleitk-rigid": simpleitk_rigid,
}

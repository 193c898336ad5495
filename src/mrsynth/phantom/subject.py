"""One subject, in memory: anatomy, poses, every image asked for, and the truth about them."""

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from mrsynth.errors import StudyError
from mrsynth.phantom import acquire
from mrsynth.phantom import anatomy as anatomies
from mrsynth.phantom import pose as poses
from mrsynth.phantom.anatomy import stream
from mrsynth.phantom.shapes import (
    ANNULUS,
    CORTICAL,
    CSF,
    MUSCLE,
    NERVE,
    NUCLEUS,
    SPONGIOSA,
    TISSUES,
)
from mrsynth.phantom.variants import vary

SERIES = ("ct", "t2ax", "t2sag", "t1sag", "stir", "tirm", "xray")
AWKWARD = ("localizer", "interval", "oblique", "ct_only", "mr_only", "missing_slice")
BLOCK_ORDER = ("L4-L5", "L5-S1", "L3-L4", "L2-L3", "L1-L2")  # as often as they are examined
SAGITTAL_SLICES = 15
SLICE_MM, GAP_MM = 4.0, 0.4
REACH_MM = 35.0  # truth points lie this near to the disc's centre: the spine, where error matters
POINTS_PER_BLOCK = 400
KINDS = {
    "disc": (ANNULUS, *(NUCLEUS + n for n in range(5))),
    "bone": (CORTICAL, SPONGIOSA),
    "canal": (CSF, NERVE),
    "muscle": (MUSCLE,),
}
GREY_GAIN = {"t2ax": 1.0, "t2sag": 1.0, "t1sag": 1.6, "stir": 1.6, "tirm": 1.6, "localizer": 1.0}


@dataclass
class Subject:
    """What was simulated.

    Attributes:
        number: Of the subject in the cohort.
        images: Name to stacks. ``ct`` int16 HU; MR uint16; ``xray`` has one slice and the
            detector's spacing, no position.
        tissues: Name to label volumes (uint8, mid planes for MR) on the same grids.
        truth: As in ``truth.json``.
        points: Columns of ``points.tsv`` to arrays.
        pose: Both poses; :func:`mrsynth.phantom.pose.mr_to_ct` maps any MR point.
        anatomy: The anatomy drawn.
    """

    number: int
    images: dict[str, list[sitk.Image]]
    tissues: dict[str, list[sitk.Image]]
    truth: dict
    points: dict[str, np.ndarray]
    pose: poses.Pose
    anatomy: anatomies.Anatomy = field(repr=False)


def simulate(
    number: int,
    *,
    seed: int = 20200,
    series: tuple[str, ...] | list[str] = SERIES,
    awkward: dict[str, list[int]] | None = None,
    lesion_share: float = 0.4,
    field_t: float | None = None,
    ct_pixel_mm: float = 1.0,
    ct_slice_mm: float = 1.0,
    ct_width_mm: float = 360.0,
    ct_depth_mm: float = 280.0,
    ct_noise_hu: float = 14.0,
    ct_psf_mm: float = 0.7,
    mr_pixel_mm: float = 0.8,
    mr_field_mm: float = 200.0,
    mr_noise: float = 0.012,
    mr_bias: float = 0.25,
    blocks_min: int = 3,
    blocks_max: int = 5,
    block_slices_min: int = 3,
    block_slices_max: int = 5,
    sagittal_pixel_mm: float = 0.9,
    sagittal_field_mm: float = 280.0,
    level_change_deg: float = 2.0,
    couch: bool = True,
    variant: str = "",
) -> Subject:
    """Simulate one subject; a deterministic function of ``seed``, ``number`` and the settings.

    Args:
        number: Of the subject, from 1.
        seed: Of the cohort.
        series: Which of :data:`SERIES` to acquire.
        awkward: Kind (:data:`AWKWARD`) to the numbers of the subjects that are so.
        lesion_share: Share of subjects with lesions that only MR shows.
        field_t: 1.5 or 3; None draws one per subject.
        ct_pixel_mm, ct_slice_mm: CT voxel.
        ct_width_mm, ct_depth_mm: CT field, left to right and front to back.
        ct_noise_hu, ct_psf_mm: Deviation of noise; Gaussian sigma of the in-plane point spread.
        mr_pixel_mm, mr_field_mm: Axial T2 pixel and field.
        mr_noise: Deviation of each noise channel, of water's proton density.
        mr_bias: Log amplitude of the bias field over 10 cm.
        blocks_min, blocks_max, block_slices_min, block_slices_max: Disc-angled blocks and their
            slices.
        sagittal_pixel_mm, sagittal_field_mm: Sagittal pixel and field.
        couch: Whether the CT shows the couch.
        level_change_deg: Scale of the change of angle per disc between CT and MR.
        variant: Another count of vertebrae, one of :data:`mrsynth.phantom.variants.VARIANTS`.

    Returns:
        The subject. CT and MR are in frames of their own, LPS mm.

    Raises:
        StudyError: If a series or an awkward kind is unknown.
    """
    if blocks_min > blocks_max or block_slices_min > block_slices_max:
        raise StudyError(
            f"phantom: blocks_min {blocks_min}, blocks_max {blocks_max}, block_slices_min "
            f"{block_slices_min}, block_slices_max {block_slices_max}: lower the minimum or "
            "raise the maximum."
        )
    strange = _awkward(number, awkward or {})
    names = _wanted(series, strange)
    person = vary(anatomies.draw(seed, number, lesion_share), variant)
    lie = poses.draw_pose(seed, number, person, level_change_deg)
    rng = stream(seed, number, "session")
    tesla = float(field_t or rng.choice([1.5, 3.0]))
    count = int(np.clip(rng.integers(blocks_min, blocks_max + 1), 1, len(BLOCK_ORDER)))
    slices = rng.integers(block_slices_min, block_slices_max + 1, len(BLOCK_ORDER))
    axial = _axial_grids(
        person, lie, rng, count, slices, mr_pixel_mm, mr_field_mm, "oblique" in strange
    )
    grids = {"t2ax": axial[1]}
    sagittal = _sagittal_grid(person, lie, sagittal_pixel_mm, sagittal_field_mm)
    grids |= {name: [sagittal] for name in ("t2sag", "t1sag", "stir", "tirm")}
    grids["localizer"] = _localizer_grids(person, lie)
    ct = acquire.ct_grid(person, lie, ct_pixel_mm, ct_slice_mm, ct_width_mm, ct_depth_mm)

    images, tissues = {}, {}
    if "ct" in names or "xray" in names:
        hu, labels = acquire.acquire_ct(
            person, lie, ct, stream(seed, number, "ct"), ct_noise_hu, ct_psf_mm, couch
        )
        if "xray" in names:
            images["xray"] = [_xray(hu, ct)]
        if "ct" in names:
            images["ct"], tissues["ct"] = [acquire.image(hu, ct)], [acquire.image(labels, ct)]
    for group in (["t2ax"], ["t2sag", "t1sag", "stir", "tirm"], ["localizer"]):
        asked = [name for name in group if name in names]
        if asked:
            _scan(
                images, tissues, person, lie, asked, grids, tesla, seed, number, mr_noise, mr_bias
            )
    truth = _truth(number, person, lie, axial[0], tesla, strange, rng)
    table = _points(lie, axial, tissues.get("t2ax"), person, stream(seed, number, "points"))
    return Subject(number, images, tissues, truth, table, lie, person)


def _awkward(number: int, awkward: dict) -> set[str]:
    unknown = set(awkward) - set(AWKWARD)
    if unknown:
        raise StudyError(
            f"phantom: awkward: unknown kind {sorted(unknown)}; use one of {', '.join(AWKWARD)}."
        )
    return {kind for kind, numbers in awkward.items() if number in numbers}


def _wanted(series, strange) -> list[str]:
    unknown = set(series) - set(SERIES)
    if unknown:
        raise StudyError(
            f"phantom: series: unknown series {sorted(unknown)}; use some of {', '.join(SERIES)}."
        )
    names = [name for name in SERIES if name in series]
    if "localizer" in strange:
        names.append("localizer")
    if "ct_only" in strange:
        names = [name for name in names if name in ("ct", "xray")]
    if "mr_only" in strange:
        names = [name for name in names if name not in ("ct", "xray")]
    return names


def _axial_grids(person, lie, rng, count, slices, pixel, width, oblique):
    """Levels and grids of the blocks, cranial to caudal, each nearly parallel to its disc."""
    centres, normals = poses.disc_planes_mr(lie)
    levels = [disc.level for disc in person.discs]
    known = [name for name in BLOCK_ORDER if name in levels]
    chosen = sorted((levels.index(name) for name in known[:count]), reverse=True)
    off = rng.normal(0, 1.2, (len(levels), 2)).clip(-2.5, 2.5)
    shift = rng.uniform(-3, 3, (len(levels), 2))
    size = round(width / pixel)
    tilt = rng.choice([-1, 1]) * rng.uniform(12, 15)
    grids = []
    for disc in chosen:
        lean = np.radians([off[disc, 0] + (tilt if oblique else 0), off[disc, 1], 0])
        axes = acquire.block_axes(anatomies.rotation(*lean) @ normals[disc])
        back = centres[disc] + axes @ [shift[disc, 0], 14 + shift[disc, 1], 0]
        step = SLICE_MM + GAP_MM
        grids.append(
            acquire.grid(
                back, axes, (pixel, pixel, step), (size, size, slices[disc % len(slices)]), SLICE_MM
            )
        )
    return [levels[disc] for disc in chosen], grids


def _sagittal_grid(person, lie, pixel, width):
    """Sagittal stack along the patient, as a technician would turn it."""
    axes = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float)
    axes = lie.mr[:3, :3] @ axes
    centre = poses.material_to_mr(lie, person.bones[2].centre[None] + [0, 20, -15])[0]
    size = (round(width / pixel), round(width / pixel), SAGITTAL_SLICES)
    return acquire.grid(centre, axes, (pixel, pixel, SLICE_MM + GAP_MM), size, SLICE_MM)


def _localizer_grids(person, lie):
    """Three single slices: axial, sagittal, coronal."""
    centre = poses.material_to_mr(lie, person.bones[2].centre[None])[0]
    axes = (
        np.eye(3),
        np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float),
        np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
    )
    return [acquire.grid(centre, one, (1.8, 1.8, 8.0), (200, 200, 1)) for one in axes]


def _scan(images, tissues, person, lie, names, grids, tesla, seed, number, noise, bias):
    """Acquire MR series that share their grids, so tissue is sampled once for all."""
    results = {name: ([], []) for name in names}
    for stack, geometry in enumerate(grids[names[0]]):
        totals, labels = acquire.sample_mr(person, lie, geometry, names, tesla)
        for name in names:
            rng = stream(seed, number, f"{name}-{stack}")
            gain = acquire.CSF_GREY * GREY_GAIN[name]
            field_map = acquire.coil(geometry, bias, rng)
            grey = acquire.receive(totals[name], field_map, gain, noise, rng)
            results[name][0].append(acquire.image(grey, geometry))
            results[name][1].append(acquire.image(labels, geometry))
    for name, (greys, maps) in results.items():
        images[name], tissues[name] = greys, maps


def _xray(hu, ct) -> sitk.Image:
    grey, pixel = acquire.radiograph(hu, ct, 1.0)
    picture = sitk.GetImageFromArray(grey[None])
    picture.SetSpacing((pixel, pixel, 1.0))
    return picture


def _truth(number, person, lie, levels, tesla, strange, rng) -> dict:
    """Everything known about the subject, as plain data (mm, LPS; CT frame and MR frame)."""
    centres, normals = poses.disc_planes_mr(lie)
    turn = lie.ct[:3, :3]
    discs = []
    for disc, centre, normal in zip(person.discs, centres, normals, strict=True):
        discs.append(
            {
                "level": disc.level,
                "grade": disc.grade,
                "ct": {
                    "centre_mm": poses.transform(lie.ct, disc.centre[None])[0].tolist(),
                    "normal": (turn @ disc.axes[:, 2]).tolist(),
                },
                "mr": {"centre_mm": centre.tolist(), "normal": normal.tolist()},
                "half_width_mm": disc.a,
                "half_depth_mm": disc.b,
                "height_mm": disc.height,
            }
        )
    segments = ["S1", *(bone.name for bone in person.bones)]
    lesion_centres = [lesion.centre for lesion in person.lesions]
    in_mr = poses.material_to_mr(lie, np.array(lesion_centres)) if lesion_centres else []
    return {
        "number": number,
        "age_years": person.age,
        "sex": person.sex,
        "field_t": tesla,
        "awkward": sorted(strange),
        "blocks": levels,
        "discs": discs[::-1],
        "canal_ct_mm": poses.transform(lie.ct, person.canal)[::-1].tolist(),
        "canal_mr_mm": poses.material_to_mr(lie, person.canal)[::-1].tolist(),
        "mr_to_ct": {
            name: poses.vertebra_matrix(lie, order).tolist() for order, name in enumerate(segments)
        },
        "lesions": [
            {
                "centre_mr_mm": centre.tolist(),
                "radius_mm": lesion.radius,
                "tissue": lesion.tissue,
                "kind": lesion.kind,
            }
            for lesion, centre in zip(person.lesions, in_mr, strict=True)
        ],
        "tissues": {name: index for index, name in enumerate(TISSUES)},
        "interval_days": int(rng.integers(0, 4)) if "interval" not in strange else 11,
    }


def _points(lie, axial, tissues, person, rng) -> dict[str, np.ndarray]:
    """Points of the blocks' slices within reach of the disc's centre, with their CT positions."""
    centres = dict(
        zip([disc.level for disc in person.discs], poses.disc_planes_mr(lie)[0], strict=True)
    )
    rows = {"stack": [], "kind": [], "mr": []}
    for stack, (level, geometry) in enumerate(zip(*axial, strict=True), start=1):
        if tissues is None:
            break
        labels = sitk.GetArrayViewFromImage(tissues[stack - 1]).ravel()
        where = acquire.points(geometry, 0, geometry.size[2]).astype(float)
        near = np.linalg.norm(where - centres[level], axis=1) < REACH_MM
        for kind, members in KINDS.items():
            found = np.flatnonzero(near & np.isin(labels, members))
            take = rng.permutation(found)[: POINTS_PER_BLOCK // len(KINDS)]
            rows["stack"] += [stack] * len(take)
            rows["kind"] += [kind] * len(take)
            rows["mr"].append(where[take])
    mr = np.concatenate(rows["mr"]) if rows["mr"] else np.zeros((0, 3))
    ct = poses.mr_to_ct(lie, mr) if len(mr) else mr
    table = {"stack": np.array(rows["stack"], int), "kind": np.array(rows["kind"], str)}
    table |= {f"mr_{axis}": mr[:, order] for order, axis in enumerate("xyz")}
    return table | {f"ct_{axis}": ct[:, order] for order, axis in enumerate("xyz")}

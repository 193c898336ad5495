"""The settings of a registration, with the reasons for their defaults."""

from dataclasses import dataclass, fields

from mrsynth.errors import StudyError

ENGINES = ("sampled", "simpleitk", "ants")
TRANSFORMS = ("rigid", "similarity", "affine")
MASKS = ("body", "brain", "user")


@dataclass(frozen=True)
class Settings:
    """Settings of :func:`mrsynth.register.register` and :func:`mrsynth.register.register_stacks`.

    Attributes:
        engine: What refines the pose that the scan over starts has found: ``sampled`` (mutual
            information of point samples, joint over stacks), ``simpleitk`` or ``ants``.
        transform: ``rigid``, or after it ``similarity`` (one scale) or ``affine`` (whole volumes
            only: on a slab of a few slices they invent scale and shear).
        deterministic: One thread and a fixed seed in the engines ``simpleitk`` and ``ants``, so
            that a repeat is the same bit for bit; ``sampled`` always is.
        mask: What counts in the measure after the first level, on the side that has it: ``body``,
            ``brain`` (found on an MR) or ``user`` (the user's files).
        flips: Also try starts turned by 180° about each axis.
        turn_deg: Starts turned by up to this from each of those.
        turn_step_deg: Angle between neighbouring ones.
        seed: Of the sampling; the same seed gives the same result.
        levels_mm: Resolutions from coarse to fine; the first is that of the scan.
        samples: Fixed samples per level.
        search_mm: Half range (x, y, z) of the scan over translations around the landmarks' or the
            body's centre; the scan is repeated along z until it covers a taller spine or body.
        search_step_mm: Step of that scan.
        level_shift_mm: Distance along the spine at which rivals one vertebra off are tried; 0:
            none.
        candidates: How many peaks of the scan are refined.
        ct_window_hu: HU range that enters the histogram; above it bone is bone.
        ct_max_hu: CT voxels above are left out of the measure (Jin 2019 masks the skull); None
            keeps all.
        roi_radius_mm: Radius around the landmarks inside which samples count after the scan.
        min_overlap: Share of fixed samples inside the moving field below which a pose is no
            candidate.
        block_samples: Fixed samples of one stack at every finer level.
        block_rotation_deg: How far a stack may turn about each axis at each of the finer levels; a
            stack that is held back by this, or ends farther from the whole image's pose, is marked
            ``at_limit``.
        block_shift_mm: How far a stack's centre may move, in the same way.
        block_stiffness: Strength of the pull of a stack towards where its level starts (the whole
            image's pose, then the level's before), nats at the limits above, which stay around the
            whole image's pose (stacks of few slices are weak along their normal).
        accept_restart_mm: Largest distance between the result and the ends of searches begun
            at poses turned and shifted from it (median).
        accept_inverse_mm: Largest distance between the results of the fixed image's samples alone
            and of the moving image's samples alone.
        accept_mirror: Largest information of the best pose near the mirrored result, relative to
            the result's, where there are landmarks of a spine.
        accept_mirror_whole: The same without landmarks: a head is nearly its own mirror image.
        accept_sharpness: Smallest mean fall of the information at poses off by 3 mm, relative to
            the result's, where there are landmarks of a spine.
        accept_sharpness_whole: The same without landmarks.
        accept_bone_mm: Largest distance between the CT's bone and the MR's dark layer next to it.
        accept_rival: Largest rise of a rival over chance, relative to that of the winner.
        accept_repeat_mm: Largest distance between results from two halves of the samples (an upper
            bound of the chance error: each half is coarser than the result).
        accept_peak: Smallest share of perturbed poses that must be worse than the result.
        accept_overlap: Smallest overlap.
        fail_mi: Mutual information in nats under which nothing was found.
    """

    engine: str = "sampled"
    transform: str = "rigid"
    deterministic: bool = True
    mask: str = "body"
    flips: bool = True
    turn_deg: float = 45.0
    turn_step_deg: float = 30.0
    seed: int = 1
    levels_mm: tuple[float, ...] = (5.0, 2.5, 1.25)
    samples: tuple[int, ...] = (8000, 12000, 100000)
    search_mm: tuple[float, float, float] = (40.0, 70.0, 120.0)
    search_step_mm: float = 15.0
    level_shift_mm: float = 35.0
    candidates: int = 24
    ct_window_hu: tuple[float, float] = (-200.0, 400.0)
    ct_max_hu: float | None = None
    roi_radius_mm: float = 55.0
    min_overlap: float = 0.3
    block_samples: int = 12000
    block_rotation_deg: float = 8.0
    block_shift_mm: float = 10.0
    block_stiffness: float = 0.02
    accept_restart_mm: float = 2.5
    accept_inverse_mm: float = 4.0
    accept_mirror: float = 0.85
    accept_mirror_whole: float = 0.97
    accept_sharpness: float = 0.15
    accept_sharpness_whole: float = 0.06
    accept_bone_mm: float = 3.0
    accept_rival: float = 0.75
    accept_repeat_mm: float = 2.0
    accept_peak: float = 0.95
    accept_overlap: float = 0.6
    fail_mi: float = 0.03

    @classmethod
    def read(cls, cfg: dict) -> "Settings":
        """Settings from a config block; :class:`StudyError` names what is wrong."""
        known = {field.name for field in fields(cls)}
        for key in cfg:
            if key not in known:
                raise StudyError(f"register.{key} is not a setting; known: {sorted(known)}.")
        settings = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in cfg.items()})
        settings._check()
        return settings

    def _check(self) -> None:
        if self.engine not in ENGINES:
            raise StudyError(f"register.engine is {self.engine!r}; use one of {ENGINES}.")
        if self.transform not in TRANSFORMS:
            raise StudyError(f"register.transform is {self.transform!r}; use one of {TRANSFORMS}.")
        if self.mask not in MASKS:
            raise StudyError(f"register.mask is {self.mask!r}; use one of {MASKS}.")
        if not 0 <= self.turn_deg <= 180 or self.turn_step_deg < 10:
            raise StudyError(
                f"register.turn_deg is {self.turn_deg}, register.turn_step_deg "
                f"{self.turn_step_deg}; give 0 to 180, and a step of at least 10."
            )
        if not self.levels_mm or len(self.levels_mm) != len(self.samples):
            raise StudyError(
                f"register.levels_mm has {len(self.levels_mm)} and register.samples "
                f"{len(self.samples)} entries; give one number of samples per level."
            )
        if list(self.levels_mm) != sorted(self.levels_mm, reverse=True) or self.levels_mm[-1] <= 0:
            raise StudyError(
                f"register.levels_mm is {list(self.levels_mm)}; give positive mm, coarse to fine."
            )
        if self.search_step_mm <= 0 or len(self.search_mm) != 3:
            raise StudyError(
                "register.search_step_mm must be positive, register.search_mm three numbers."
            )
        if not self.ct_window_hu[0] < self.ct_window_hu[1]:
            raise StudyError(
                f"register.ct_window_hu is {list(self.ct_window_hu)}; the first must be smaller."
            )

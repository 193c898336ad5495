"""The settings of a registration, with the reasons for their defaults."""

from dataclasses import dataclass, fields

from mrsynth.errors import StudyError

ENGINES = ("sampled", "simpleitk", "ants")
TRANSFORMS = ("rigid", "affine")


@dataclass(frozen=True)
class Settings:
    """Settings of :func:`mrsynth.register.register` and :func:`mrsynth.register.register_stacks`.

    Attributes:
        engine: What refines the pose that the scan over starts has found: ``sampled`` (mutual
            information of point samples, joint over stacks), ``simpleitk`` or ``ants``.
        transform: ``rigid``, or ``affine`` after rigid (whole volumes only: on a slab of a few
            slices it invents scale and shear).
        flips: Also try starts turned by 180° about each axis.
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
        block_stiffness: Strength of the pull of a stack towards the whole image's pose, nats at
            the limits above (stacks of few slices are weak along their normal).
        accept_rival: Largest rise of a rival over chance, relative to that of the winner.
        accept_repeat_mm: Largest distance between results from two halves of the samples (an upper
            bound of the chance error: each half is coarser than the result).
        accept_peak: Smallest share of perturbed poses that must be worse than the result.
        accept_overlap: Smallest overlap.
        fail_mi: Mutual information in nats under which nothing was found.
    """

    engine: str = "sampled"
    transform: str = "rigid"
    flips: bool = True
    seed: int = 1
    levels_mm: tuple[float, ...] = (5.0, 2.5, 1.25)
    samples: tuple[int, ...] = (2000, 12000, 100000)
    search_mm: tuple[float, float, float] = (40.0, 70.0, 120.0)
    search_step_mm: float = 10.0
    level_shift_mm: float = 35.0
    candidates: int = 6
    ct_window_hu: tuple[float, float] = (-200.0, 400.0)
    ct_max_hu: float | None = None
    roi_radius_mm: float = 55.0
    min_overlap: float = 0.3
    block_samples: int = 12000
    block_rotation_deg: float = 8.0
    block_shift_mm: float = 10.0
    block_stiffness: float = 0.02
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

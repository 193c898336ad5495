"""What `locate` finds: discs with their planes, the sac, the body's edges, the canal."""

from dataclasses import dataclass, field, replace

import numpy as np

from mrsynth.errors import StudyError
from mrsynth.geometry import apply


def _points(value) -> np.ndarray | None:
    return None if value is None else np.asarray(value, dtype=float)


@dataclass
class Disc:
    """One intervertebral disc; all points (3,) in LPS mm of the native CT.

    Attributes:
        level: Such as ``L4-L5``; None where the count from the sacrum isn't known.
        centre_mm: Middle of the gap between the two facing endplates.
        normal: Unit normal of the disc's plane, pointing up the spine.
        confidence: 0 to 1, from the contrast of the endplates and how flat they are.
        sac_mm: Centre of the thecal sac in the disc's plane, or None.
        ventral_mm: Most ventral point of the vertebral body's edge in the disc's plane, or None.
        lateral_mm: Right and left edges of the body in the disc's plane (2, 3), or None.
    """

    level: str | None
    centre_mm: np.ndarray
    normal: np.ndarray
    confidence: float = 1.0
    sac_mm: np.ndarray | None = None
    ventral_mm: np.ndarray | None = None
    lateral_mm: np.ndarray | None = None

    def __post_init__(self):
        for name in ("centre_mm", "normal", "sac_mm", "ventral_mm", "lateral_mm"):
            setattr(self, name, _points(getattr(self, name)))


@dataclass
class Landmarks:
    """The spine of one CT.

    Attributes:
        discs: Cranial to caudal.
        canal: Points (n, 3) on the canal's centre line, cranial to caudal, LPS mm.
        body_hu: CT number above which a voxel counts as the patient's body.
        source: ``auto``, ``labels`` or ``landmarks``.
        flags: Upper-case codes of what a person should know, e.g. ``NO_SACRUM``.
    """

    discs: list[Disc]
    canal: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    body_hu: float = -300.0
    source: str = "auto"
    flags: list[str] = field(default_factory=list)

    def disc(self, level: str) -> Disc | None:
        """The disc of a level such as ``L4-L5``, or None."""
        return next((disc for disc in self.discs if disc.level == level), None)

    def moved(self, matrix: np.ndarray) -> "Landmarks":
        """The same spine after a rigid motion (4×4) of the patient."""

        def there(points: np.ndarray | None) -> np.ndarray | None:
            return None if points is None else apply(matrix, points)

        discs = [
            replace(
                disc,
                centre_mm=there(disc.centre_mm),
                normal=matrix[:3, :3] @ disc.normal,
                sac_mm=there(disc.sac_mm),
                ventral_mm=there(disc.ventral_mm),
                lateral_mm=there(disc.lateral_mm),
            )
            for disc in self.discs
        ]
        return replace(self, discs=discs, canal=apply(matrix, self.canal))

    def to_dict(self) -> dict:
        """Plain data for a JSON record (``docs/architecture.md``, Landmarks)."""
        return {
            "discs": [
                {
                    key: value.tolist() if isinstance(value, np.ndarray) else value
                    for key, value in vars(disc).items()
                }
                for disc in self.discs
            ],
            "canal": np.asarray(self.canal, dtype=float).tolist(),
            "body": self.body_hu,
            "source": self.source,
            "flags": list(self.flags),
        }

    @classmethod
    def from_dict(cls, content: dict) -> "Landmarks":
        """The inverse of :meth:`to_dict`; entries of other stages in the record are left alone.

        Raises:
            StudyError: If there are no discs in it.
        """
        if "discs" not in content:
            raise StudyError("landmarks record without the key `discs`: run `locate` again")
        canal = np.asarray(content.get("canal", []), dtype=float).reshape(-1, 3)
        names = Disc.__dataclass_fields__
        return cls(
            discs=[
                Disc(**{k: v for k, v in disc.items() if k in names}) for disc in content["discs"]
            ],
            canal=canal,
            body_hu=content.get("body", -300.0),
            source=content.get("source", "auto"),
            flags=list(content.get("flags", [])),
        )

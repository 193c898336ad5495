"""The settings of a training, checked and completed, and its learning rate."""

from dataclasses import dataclass, field, fields

from mrsynth import augment
from mrsynth.errors import StudyError
from mrsynth.models import generators, load_objective

DISCRIMINATOR = {
    "filters": 64,
    "max_filters": 512,
    "head": 0,
    "strided": 5,
    "tail": 2,
    "kernel": 4,
    "slope": 0.2,
    "norm": "instance",
    "affine": True,
}
"""Lee et al. 2020: two convolutions and five strided ones; order and kernel are pix2pix's."""


@dataclass(frozen=True)
class Settings:
    """The training block. Keys, units and marks are in ``workflow/schemas/train.schema.yaml``."""

    objective: str = "paired"
    seed: int = 1
    generator: dict = field(default_factory=dict)
    discriminator: dict = field(default_factory=dict)
    gan_loss: str = "log"
    unpaired_loss: str = "least_squares"
    lambda_l1: float = 10.0
    lambda_cycle: float = 10.0
    paired_cycle: bool = True
    real_label: float = 1.0
    discriminator_scale: float = 0.5
    l1_region: str = "valid"
    pool_size: int = 0
    unpaired: str = "pools"
    learning_rate: float = 2e-4
    beta1: float = 0.5
    batch: int = 1
    constant_iterations: int = 100_000
    decay_iterations: int = 100_000
    total_iterations: int = 200_000
    flip_probability: float = augment.FLIP_PROBABILITY
    pad_ratio: float = augment.PAD_RATIO
    rotation_deg: float = augment.ROTATION_DEG
    border: str = "reflect"
    shuffle_pairs: bool = False
    weights: str = "last"
    patience: int = 0
    validation_every: int = 1000
    history_every: int = 100
    device: str = "auto"
    devices: int = 1
    share_device: bool = False
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = True
    checkpoint_seconds: float = 300.0
    report_seconds: float = 30.0
    tensorboard: bool = True
    samples: int = 4


def settings(**cfg) -> Settings:
    """Check a training block and fill in its defaults.

    Raises:
        StudyError: Naming an unknown or contradictory key.
    """
    unknown = sorted(set(cfg) - {entry.name for entry in fields(Settings)})
    if unknown:
        raise StudyError(f"config key 'train.{unknown[0]}' is unknown; see config/README.md")
    cfg["generator"] = generators.complete(cfg.get("generator") or {})
    given = cfg.get("discriminator") or {}
    unknown = sorted(set(given) - set(DISCRIMINATOR))
    if unknown:
        raise StudyError(f"config key 'train.discriminator.{unknown[0]}' is unknown")
    cfg["discriminator"] = {**DISCRIMINATOR, **given}
    chosen = Settings(**cfg)
    planned = chosen.constant_iterations + chosen.decay_iterations
    if chosen.total_iterations > planned:
        raise StudyError(
            f"config key 'train.total_iterations' = {chosen.total_iterations} exceeds "
            f"constant_iterations + "
            f"decay_iterations = {planned}, after which the learning rate is 0; raise one of these"
        )
    _check_devices(chosen)
    load_objective(chosen.objective)
    return chosen


def _check_devices(chosen: Settings) -> None:
    """Refuse what several processes can't share."""
    if chosen.devices > 1 and chosen.share_device:
        raise StudyError(
            f"config key 'train.share_device' = true with 'train.devices' = {chosen.devices}: all "
            "would take the first card; set 'share_device: false' or 'devices: 1'"
        )
    if chosen.batch % chosen.devices:
        raise StudyError(
            f"config key 'train.batch' = {chosen.batch} can't be shared by 'train.devices' = "
            f"{chosen.devices}; make it a multiple"
        )
    if chosen.devices > 1 and "batch" in (chosen.generator["norm"], chosen.discriminator["norm"]):
        raise StudyError(
            "config key 'train.devices': with norm 'batch' each device would normalise by its own "
            "images; use norm 'instance' or one device"
        )


def learning_rate(iteration: int, chosen: Settings) -> float:
    """Rate of the step after ``iteration`` steps: constant, then linear to 0 (Lee et al. 2020)."""
    late = max(iteration - chosen.constant_iterations, 0)
    if not late:
        return chosen.learning_rate
    return chosen.learning_rate * max(1 - late / chosen.decay_iterations, 0.0)

"""Both directions at once: two generators, two discriminators, and the way there and back.

What `unpaired` and `mrgan` share. Domains are named by the task: source (CT) and target (MR).
"""

import torch
from torch.nn import functional

from mrsynth.models import generators
from mrsynth.models.losses import adversarial
from mrsynth.models.players import Players
from mrsynth.models.pool import Pool

GENERATORS = ("generator", "back_generator")
"""Source to target (the training's result), and back."""

DISCRIMINATORS = ("target_discriminator", "source_discriminator")


class Cycle:
    """The unpaired side: least-squares GAN both ways and cycle consistency.

    Args:
        settings: The merged training block; reads ``generator``, ``unpaired_loss``,
            ``lambda_cycle``, ``real_label``, ``pool_size``, ``discriminator_scale``,
            ``learning_rate`` and ``beta1``.
        precision: Context-manager factory under which the networks run.
        discriminator: Makes a discriminator with fresh weights.
    """

    def __init__(self, settings: dict, precision, discriminator):
        self.kind = settings["unpaired_loss"]
        self.lambda_cycle = settings["lambda_cycle"]
        self.real_label = settings["real_label"]
        self.scale = settings["discriminator_scale"]
        members = {name: generators.build(settings["generator"]) for name in GENERATORS}
        members |= {name: discriminator() for name in DISCRIMINATORS}
        self.players = Players(members, settings, precision)
        self.pools = {name: Pool(settings["pool_size"]) for name in DISCRIMINATORS}

    def there_and_back(self, source, target) -> dict[str, torch.Tensor]:
        """Synthetic images [n, 1, h, w] of both domains and the reconstructed originals."""
        synthetic_target = self.players.run("generator", source)
        synthetic_source = self.players.run("back_generator", target)
        return {
            "target": synthetic_target,
            "source": synthetic_source,
            "source_again": self.players.run("back_generator", synthetic_target),
            "target_again": self.players.run("generator", synthetic_source),
        }

    def generator_terms(self, source, target, made) -> dict[str, torch.Tensor]:
        """The generators' loss terms before their weights (Jin et al. 2019, equations 2 and 3)."""
        judged = {
            name: self.players.run(f"{name}_discriminator", made[name])
            for name in ("target", "source")
        }
        return {
            "gan": adversarial(judged["target"], True, self.kind, self.real_label),
            "back_gan": adversarial(judged["source"], True, self.kind, self.real_label),
            "cycle": cycle_loss(source, target, made),
        }

    def discriminator_terms(self, source, target, made) -> dict[str, torch.Tensor]:
        """Each discriminator's loss on real and synthetic images, scaled."""
        terms = {}
        for domain, real in (("target", target), ("source", source)):
            name = f"{domain}_discriminator"
            past = self.pools[name].swap(made[domain].detach())
            terms[name] = self.scale * (
                adversarial(self.players.run(name, real), True, self.kind, self.real_label)
                + adversarial(self.players.run(name, past), False, self.kind)
            )
        return terms

    def extra_state(self) -> dict:
        """The pools of past images."""
        return {name: pool.state() for name, pool in self.pools.items()}

    def load_extra_state(self, state: dict) -> None:
        """Go on with the pools of a checkpoint."""
        device = next(self.players.members["generator"].parameters()).device
        for name, pool in self.pools.items():
            pool.load_state(state[name], device)


def cycle_loss(source, target, made) -> torch.Tensor:
    """Mean absolute difference after both ways round, summed over the two directions."""
    there = functional.l1_loss(made["source_again"], source.float())
    return there + functional.l1_loss(made["target_again"], target.float())


class Circular:
    """What objectives around a :class:`Cycle` owe the training loop besides their step.

    Attributes:
        cycle: The unpaired side, with its pools.
        players: Its networks and optimisers.
    """

    cycle: Cycle
    players: Players

    def networks(self) -> dict[str, torch.nn.Module]:
        """Both generators, then both discriminators."""
        return self.players.members

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One Adam per network, of the same name."""
        return self.players.optimizers

    def describe(self) -> dict:
        """Parameter counts and receptive fields."""
        return self.players.describe()

    def extra_state(self) -> dict:
        """The pools of past images."""
        return self.cycle.extra_state()

    def load_extra_state(self, state: dict) -> None:
        """Go on with the pools of a checkpoint."""
        self.cycle.load_extra_state(state)

    def check_size(self, height: int, width: int) -> None:
        """Raise ``StudyError`` if the discriminators have more strides than the image bears."""
        self.networks()["target_discriminator"].check_size(height, width)

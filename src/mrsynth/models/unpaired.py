"""CycleGAN: source and target images of different patients (Zhu et al. 2017; Jin et al. 2019)."""

import torch

from mrsynth.models import networks
from mrsynth.models.cycle import DISCRIMINATORS, GENERATORS, Circular, Cycle


class Objective(Circular):
    """min over both generators, max over both discriminators of two GANs + λ·cycle.

    Source and target of a batch belong to nobody in common; nothing compares them.

    Args:
        settings: The merged training block; reads what :class:`mrsynth.models.cycle.Cycle` does,
            and ``discriminator``.
        precision: Context-manager factory under which the networks run (autocast or nothing).
    """

    data = ("unpaired",)

    def __init__(self, settings: dict, precision):
        def discriminator():
            network = networks.Discriminator(channels=1, **settings["discriminator"])
            return networks.initialize(network)

        self.cycle = Cycle(settings, precision, discriminator)
        self.players = self.cycle.players
        self.precision = precision
        self.generator = self.players.members["generator"]

    def step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of the generators, then one of the discriminators.

        Args:
            batch: ``unpaired_source`` and ``unpaired_target`` [n, 1, h, w].

        Returns:
            ``gan``, ``back_gan`` and ``cycle`` before λ, and each discriminator's loss.
        """
        source, target = batch["unpaired_source"], batch["unpaired_target"]
        players = self.players
        made = self.cycle.there_and_back(source, target)
        with players.frozen(*DISCRIMINATORS):
            terms = self.cycle.generator_terms(source, target, made)
            loss = terms["gan"] + terms["back_gan"] + self.cycle.lambda_cycle * terms["cycle"]
            players.descend(GENERATORS, loss)
        judged = self.cycle.discriminator_terms(source, target, made)
        players.descend(DISCRIMINATORS, sum(judged.values()))
        return {name: value.detach() for name, value in {**terms, **judged}.items()}

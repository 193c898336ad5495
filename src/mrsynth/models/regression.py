"""The generator alone, trained on L1: what a synthesiser does without an adversary."""

import torch

from mrsynth.models import generators
from mrsynth.models.losses import masked_l1
from mrsynth.models.players import Players


class Objective:
    """L1 between synthetic and real target; the second term of Lee et al. 2020 by itself.

    Args:
        settings: The merged training block; reads ``generator``, ``learning_rate`` and ``beta1``.
        precision: Context-manager factory under which the networks run (autocast or nothing).
    """

    data = ("paired",)

    def __init__(self, settings: dict, precision):
        self.precision = precision
        self.generator = generators.build(settings["generator"])
        self.players = Players({"generator": self.generator}, settings, precision)

    def networks(self) -> dict[str, torch.nn.Module]:
        """The generator."""
        return self.players.members

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The generator's optimiser."""
        return self.players.optimizers

    def step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update; returns ``l1`` in units of [-1, 1]."""
        synthetic = self.players.run("generator", batch["source"])
        loss = masked_l1(synthetic, batch["target"], batch["mask"])
        self.players.descend(("generator",), loss)
        return {"l1": loss.detach()}

    def describe(self) -> dict:
        """Parameter count."""
        return self.players.describe()

    def extra_state(self) -> dict:
        """Nothing besides networks and optimisers."""
        return {}

    def load_extra_state(self, state: dict) -> None:
        """Nothing to load."""

    def check_size(self, height: int, width: int) -> None:
        """Every size will do: training pads to the generator's multiple."""

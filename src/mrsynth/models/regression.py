"""The generator alone, trained on L1: what a synthesiser does without an adversary."""

import torch

from mrsynth.models import networks
from mrsynth.models.losses import masked_l1


class Objective:
    """L1 between synthetic and real target; the second term of Lee et al. 2020 by itself.

    Args:
        settings: The merged training block; reads ``generator`` and ``beta1``.
        precision: Context-manager factory under which the networks run (autocast or nothing).
    """

    def __init__(self, settings: dict, precision):
        self.precision = precision
        self.generator = networks.initialize(networks.Generator(**settings["generator"]))
        self._optimizer = torch.optim.Adam(
            self.generator.parameters(), settings["learning_rate"], (settings["beta1"], 0.999)
        )

    def networks(self) -> dict[str, torch.nn.Module]:
        """The generator."""
        return {"generator": self.generator}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The generator's optimiser."""
        return {"generator": self._optimizer}

    def step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update; returns ``l1`` in units of [-1, 1]."""
        with self.precision():
            synthetic = self.generator(batch["source"])
        loss = masked_l1(synthetic, batch["target"], batch["mask"])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return {"l1": loss.detach()}

    def describe(self) -> dict:
        """Parameter count."""
        return {"generator_parameters": networks.parameters(self.generator)}

    def extra_state(self) -> dict:
        """Nothing besides networks and optimisers."""
        return {}

    def load_extra_state(self, state: dict) -> None:
        """Nothing to load."""

    def check_size(self, height: int, width: int) -> None:
        """Every size will do: training pads to the generator's multiple."""

"""The players of a GAN: networks with one Adam each, and the facts about them."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from mrsynth.models import networks
from mrsynth.ranks import Ranks


class Players:
    """Networks by name and their optimisers.

    The loop puts ``scaler`` there (the loss scaler of training in fp16, or None), and ``ranks``,
    the processes that train together.

    Args:
        members: Networks by name, generators first.
        settings: The merged training block; reads ``learning_rate`` and ``beta1``.
        precision: Context-manager factory under which the networks run.
    """

    def __init__(self, members: dict[str, nn.Module], settings: dict, precision):
        self.members = members
        self.precision = precision
        self.scaler: torch.amp.GradScaler | None = None
        self.ranks = Ranks()
        self.optimizers = {
            name: torch.optim.Adam(
                network.parameters(), settings["learning_rate"], (settings["beta1"], 0.999)
            )
            for name, network in members.items()
        }

    def run(self, name: str, images: torch.Tensor) -> torch.Tensor:
        """A network's output in the set precision, as float32."""
        with self.precision():
            return self.members[name](images).float()

    def descend(self, names: tuple[str, ...], loss: torch.Tensor) -> None:
        """One step of some networks down a loss."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        scaler = self.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        for name in names:
            self.ranks.average(self.members[name].parameters())
        for name in names:
            optimizer = self.optimizers[name]
            optimizer.step() if scaler is None else scaler.step(optimizer)
        if scaler is not None:
            scaler.update()

    @contextlib.contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Spare some networks the gradients of their weights while the others learn."""
        for name in names:
            self.members[name].requires_grad_(False)
        try:
            yield
        finally:
            for name in names:
                self.members[name].requires_grad_(True)

    def describe(self) -> dict:
        """Parameters of every network; of discriminators also the receptive field in pixels."""
        facts = {f"{name}_parameters": networks.parameters(n) for name, n in self.members.items()}
        for name, network in self.members.items():
            if hasattr(network, "receptive_field"):
                facts[f"{name}_receptive_field_px"] = network.receptive_field
        return facts

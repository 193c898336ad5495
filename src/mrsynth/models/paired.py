"""The paired GAN of Lee et al. 2020: a conditional GAN on (CT, MR) pairs plus λ·L1."""

import torch

from mrsynth.models import networks
from mrsynth.models.losses import adversarial, masked_l1
from mrsynth.models.pool import Pool


class Objective:
    """min over G, max over D of L_GAN(G, D) + λ·L_L1(G) (Lee et al. 2020, equations 1 to 3).

    The discriminator sees source and target side by side as two channels.

    Args:
        settings: The merged training block; reads ``generator``, ``discriminator``, ``gan_loss``,
            ``lambda_l1``, ``pool_size``, ``learning_rate`` and ``beta1``.
        precision: Context-manager factory under which the networks run (autocast or nothing).
    """

    def __init__(self, settings: dict, precision):
        self.precision = precision
        self.gan_loss = settings["gan_loss"]
        self.lambda_l1 = settings["lambda_l1"]
        self.pool = Pool(settings["pool_size"])
        self.generator = networks.initialize(networks.Generator(**settings["generator"]))
        self.discriminator = networks.initialize(
            networks.Discriminator(channels=2, **settings["discriminator"])
        )
        self._optimizers = {
            name: torch.optim.Adam(
                network.parameters(), settings["learning_rate"], (settings["beta1"], 0.999)
            )
            for name, network in self.networks().items()
        }

    def networks(self) -> dict[str, torch.nn.Module]:
        """Generator and discriminator."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One Adam per network, of the same name."""
        return self._optimizers

    def step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of the generator, then one of the discriminator.

        Returns:
            ``gan`` and ``l1`` (the generator's terms, before λ) and ``discriminator`` (mean of its
            two terms: ln 2 = 0.693 where it can't tell, for the log loss).
        """
        with self.precision():
            synthetic = self.generator(batch["source"])
        generator_losses = self._step_generator(batch, synthetic)
        discriminator_loss = self._step_discriminator(batch, synthetic.detach())
        return {**generator_losses, "discriminator": discriminator_loss}

    def _step_generator(self, batch, synthetic) -> dict[str, torch.Tensor]:
        self.discriminator.requires_grad_(False)
        logits = self._judge(torch.cat([batch["source"], synthetic.float()], dim=1))
        gan = adversarial(logits, real=True, kind=self.gan_loss)
        l1 = masked_l1(synthetic, batch["target"], batch["mask"])
        self._descend("generator", gan + self.lambda_l1 * l1)
        self.discriminator.requires_grad_(True)
        return {"gan": gan.detach(), "l1": l1.detach()}

    def _step_discriminator(self, batch, synthetic) -> torch.Tensor:
        real_pair = torch.cat([batch["source"], batch["target"]], dim=1)
        # the pool keeps whole pairs: a past image belongs to its own source
        synthetic_pair = self.pool.swap(torch.cat([batch["source"], synthetic.float()], dim=1))
        real = adversarial(self._judge(real_pair), real=True, kind=self.gan_loss)
        fake = adversarial(self._judge(synthetic_pair), real=False, kind=self.gan_loss)
        loss = (real + fake) / 2
        self._descend("discriminator", loss)
        return loss.detach()

    def _judge(self, pair: torch.Tensor) -> torch.Tensor:
        with self.precision():
            return self.discriminator(pair)

    def _descend(self, name: str, loss: torch.Tensor) -> None:
        optimizer = self._optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def describe(self) -> dict:
        """Parameter counts and the discriminator's receptive field in pixels."""
        return {
            "generator_parameters": networks.parameters(self.generator),
            "discriminator_parameters": networks.parameters(self.discriminator),
            "discriminator_receptive_field_px": self.discriminator.receptive_field,
        }

    def extra_state(self) -> dict:
        """The pool of past pairs."""
        return self.pool.state()

    def load_extra_state(self, state: dict) -> None:
        """Go on with the pool of a checkpoint."""
        self.pool.load_state(state, next(self.generator.parameters()).device)

    def check_size(self, height: int, width: int) -> None:
        """Raise ``StudyError`` if the discriminator has more strides than the image bears."""
        self.discriminator.check_size(height, width)

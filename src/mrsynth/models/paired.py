"""The paired GAN of Lee et al. 2020: a conditional GAN on (CT, MR) pairs plus λ·L1."""

import torch

from mrsynth.models import generators, networks
from mrsynth.models.losses import adversarial, masked_l1
from mrsynth.models.players import Players
from mrsynth.models.pool import Pool


class Objective:
    """min over G, max over D of L_GAN(G, D) + λ·L_L1(G) (Lee et al. 2020, equations 1 to 3).

    The discriminator sees source and target side by side as two channels.

    Args:
        settings: The merged training block; reads ``generator``, ``discriminator``, ``gan_loss``,
            ``lambda_l1``, ``discriminator_scale``, ``pool_size``, ``learning_rate`` and ``beta1``.
        precision: Context-manager factory under which the networks run (autocast or nothing).
    """

    data = ("paired",)

    def __init__(self, settings: dict, precision):
        self.precision = precision
        self.gan_loss = settings["gan_loss"]
        self.lambda_l1 = settings["lambda_l1"]
        self.scale = settings["discriminator_scale"]
        self.pool = Pool(settings["pool_size"])
        self.generator = generators.build(settings["generator"])
        self.discriminator = networks.initialize(
            networks.Discriminator(channels=2, **settings["discriminator"])
        )
        members = {"generator": self.generator, "discriminator": self.discriminator}
        self.players = Players(members, settings, precision)

    def networks(self) -> dict[str, torch.nn.Module]:
        """Generator and discriminator."""
        return self.players.members

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One Adam per network, of the same name."""
        return self.players.optimizers

    def step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of the generator, then one of the discriminator.

        Returns:
            ``gan`` and ``l1`` (the generator's terms, before λ) and ``discriminator`` (mean of its
            two terms: ln 2 = 0.693 where it can't tell, for the log loss).
        """
        synthetic = self.players.run("generator", batch["source"])
        generator_losses = self._step_generator(batch, synthetic)
        discriminator_loss = self._step_discriminator(batch, synthetic.detach())
        return {**generator_losses, "discriminator": discriminator_loss}

    def _step_generator(self, batch, synthetic) -> dict[str, torch.Tensor]:
        with self.players.frozen("discriminator"):
            logits = self._judge(batch["source"], synthetic)
            gan = adversarial(logits, real=True, kind=self.gan_loss)
            l1 = masked_l1(synthetic, batch["target"], batch["mask"])
            self.players.descend(("generator",), gan + self.lambda_l1 * l1)
        return {"gan": gan.detach(), "l1": l1.detach()}

    def _step_discriminator(self, batch, synthetic) -> torch.Tensor:
        # the pool keeps whole pairs: a past image belongs to its own source
        past = self.pool.swap(torch.cat([batch["source"], synthetic], dim=1))
        true = self._judge(batch["source"], batch["target"])
        false = self.players.run("discriminator", past)
        real = adversarial(true, real=True, kind=self.gan_loss)
        fake = adversarial(false, real=False, kind=self.gan_loss)
        loss = (real + fake) * self.scale
        self.players.descend(("discriminator",), loss)
        return loss.detach()

    def _judge(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.players.run("discriminator", torch.cat([source, target], dim=1))

    def describe(self) -> dict:
        """Parameter counts and the discriminator's receptive field in pixels."""
        return self.players.describe()

    def extra_state(self) -> dict:
        """The pool of past pairs."""
        return self.pool.state()

    def load_extra_state(self, state: dict) -> None:
        """Go on with the pool of a checkpoint."""
        self.pool.load_state(state, next(self.generator.parameters()).device)

    def check_size(self, height: int, width: int) -> None:
        """Raise ``StudyError`` if the discriminator has more strides than the image bears."""
        self.discriminator.check_size(height, width)

"""MR-GAN: paired and unpaired images together (Jin et al. 2019, equations 1 to 6)."""

import torch

from mrsynth.models import networks
from mrsynth.models.cycle import DISCRIMINATORS, GENERATORS, Circular, Cycle, cycle_loss
from mrsynth.models.losses import adversarial, masked_l1


class Objective(Circular):
    """Two GANs on images, two on pairs, λ·(four cycles), γ·L1 in both directions.

    The images are judged by least squares, the pairs by the log-likelihood; a discriminator has a
    head and a tail for each, and one trunk.

    Args:
        settings: The merged training block; reads what :class:`mrsynth.models.cycle.Cycle` does,
            and ``discriminator``, ``gan_loss``, ``lambda_l1`` (the paper's γ) and
            ``paired_cycle``.
        precision: Context-manager factory under which the networks run (autocast or nothing).
    """

    data = ("paired", "unpaired")

    def __init__(self, settings: dict, precision):
        def discriminator():
            network = networks.ForkedDiscriminator(**settings["discriminator"])
            return networks.initialize(network)

        self.cycle = Cycle(settings, precision, discriminator)
        self.players = self.cycle.players
        self.precision = precision
        self.gan_loss = settings["gan_loss"]
        self.lambda_l1 = settings["lambda_l1"]
        self.paired_cycle = settings["paired_cycle"]
        self.generator = self.players.members["generator"]

    def step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of the generators, then one of the discriminators, on both kinds of data.

        Args:
            batch: A pair's ``source``, ``target``, ``mask``, and ``unpaired_source``,
                ``unpaired_target``; all [n, 1, h, w].

        Returns:
            The terms before λ and γ: ``gan``, ``back_gan``, ``cycle`` on unpaired images,
            ``paired_gan``, ``paired_back_gan``, ``paired_cycle``, ``l1``, ``back_l1`` on pairs;
            and each discriminator's loss.
        """
        free = batch["unpaired_source"], batch["unpaired_target"]
        pair = batch["source"], batch["target"]
        players = self.players
        made, made_pair = self.cycle.there_and_back(*free), self.cycle.there_and_back(*pair)
        with players.frozen(*DISCRIMINATORS):
            terms = self.cycle.generator_terms(*free, made)
            terms |= self._paired_terms(*pair, batch["mask"], made_pair)
            players.descend(GENERATORS, self._weighted(terms))
        judged = self.cycle.discriminator_terms(*free, made)
        for name, loss in self._paired_discriminator_terms(*pair, made_pair).items():
            judged[name] = judged[name] + loss
        players.descend(DISCRIMINATORS, sum(judged.values()))
        return {name: value.detach() for name, value in {**terms, **judged}.items()}

    def _weighted(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        """The generators' loss (equation 5)."""
        gan = sum(term for name, term in terms.items() if name.endswith("gan"))
        cycle = terms["cycle"] + (terms["paired_cycle"] if self.paired_cycle else 0.0)
        voxel = terms["l1"] + terms["back_l1"]
        return gan + self.cycle.lambda_cycle * cycle + self.lambda_l1 * voxel

    def _paired_terms(self, source, target, mask, made) -> dict[str, torch.Tensor]:
        run = self.players.run
        forward = run("target_discriminator", torch.cat([source, made["target"]], dim=1))
        backward = run("source_discriminator", torch.cat([target, made["source"]], dim=1))
        return {
            "paired_gan": adversarial(forward, True, self.gan_loss),
            "paired_back_gan": adversarial(backward, True, self.gan_loss),
            "paired_cycle": cycle_loss(source, target, made),
            "l1": masked_l1(made["target"], target, mask),
            "back_l1": masked_l1(made["source"], source, mask),
        }

    def _paired_discriminator_terms(self, source, target, made) -> dict[str, torch.Tensor]:
        """Loss on real and synthetic pairs; the condition comes first, the judged image second."""
        run, terms = self.players.run, {}
        sides = (("target", source, target), ("source", target, source))
        for domain, condition, real in sides:
            name = f"{domain}_discriminator"
            true = run(name, torch.cat([condition, real], dim=1))
            false = run(name, torch.cat([condition, made[domain].detach()], dim=1))
            terms[name] = self.cycle.scale * (
                adversarial(true, True, self.gan_loss) + adversarial(false, False, self.gan_loss)
            )
        return terms

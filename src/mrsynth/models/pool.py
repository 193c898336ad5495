"""A pool of past synthetic images for the discriminator (Shrivastava et al. 2017)."""

import random

import torch


class Pool:
    """Hands a discriminator a past image instead of the present one, half of the time.

    Args:
        size: Images kept; 0 switches the pool off, so that every image is passed on.

    Draws come from Python's ``random``, whose state a checkpoint keeps.
    """

    def __init__(self, size: int = 0):
        self.size = size
        self.images: list[torch.Tensor] = []

    def swap(self, batch: torch.Tensor) -> torch.Tensor:
        """Take in a batch [n, c, h, w], give back one of its shape, some of it from the past."""
        if self.size == 0:
            return batch
        return torch.stack([self._swap(image) for image in batch])

    def _swap(self, image: torch.Tensor) -> torch.Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if random.random() < 0.5:
            place = random.randrange(self.size)
            past, self.images[place] = self.images[place], image.clone()
            return past
        return image

    def state(self) -> dict:
        """The images, for a checkpoint."""
        return {"images": self.images}

    def load_state(self, state: dict, device: torch.device | str = "cpu") -> None:
        """Go on from a checkpoint's images."""
        self.images = [image.to(device) for image in state["images"]]

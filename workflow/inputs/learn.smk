"""Settings of the rules of learning: train, synthesize."""


def every_model():
    """Weights of every task, model and fold."""
    return per_model("results/train/{task}/{model}/fold-{fold}/weights.safetensors")


def train_code(w):
    """Fingerprint of `train` with the model's own objective, so that editing one spares the others."""
    objective = STUDY.block("train", w.task, w.model)["objective"]
    return code("train", [f"mrsynth.models.{objective}"])


def cards(w):
    """GPUs that a training asks for."""
    return STUDY.block("train", w.task, w.model)["devices"]

"""Settings of the rules of learning: forecast, train, synthesize."""


def every_model():
    """Weights of every task, model and fold."""
    return per_model("results/train/{task}/{model}/fold-{fold}/weights.safetensors")


def forecast_settings():
    """Settings of `forecast` with every model's training block and image size."""
    models = {
        f"{task}/{model}": {
            "size": STUDY.block("pack", task)["size"],
            "train": STUDY.block("train", task, model),
        }
        for task in STUDY.tasks
        for model in STUDY.models[task]
    }
    block = STUDY.block("forecast")
    return block | {"models": models, "folds": STUDY.config["cohort"]["folds"]}


def forecast_code():
    """Fingerprint of `forecast` with all objectives of the study."""
    names = {
        STUDY.block("train", task, model)["objective"]
        for task in STUDY.tasks
        for model in STUDY.models[task]
    }
    return code("forecast", sorted(f"mrsynth.models.{name}" for name in names))


def train_code(w):
    """Fingerprint of `train` with the model's own objective, so that editing one spares the others."""
    objective = STUDY.block("train", w.task, w.model)["objective"]
    return code("train", [f"mrsynth.models.{objective}"])


def cards(w):
    """GPUs that a training asks for."""
    return STUDY.block("train", w.task, w.model)["devices"]


def pool_pack(w, role):
    """The pack of the subjects with one image only, where the model trains on it."""
    if not STUDY.needs_pools(w.task, w.model):
        return []
    return f"results/pack/{w.task}/fold-{w.fold}/{role}.npz"

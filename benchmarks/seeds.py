"""The demo study with three seeds of every model and a longer training, as a study file.

    python benchmarks/seeds.py > seeds.yaml
    snakemake --configfile seeds.yaml --cores 2 --resources gpu=1

In the folder of a finished demo only the trainings and what follows them run.
"""

from pathlib import Path

import yaml

SEEDS = [1, 2, 3]
ITERATIONS = 2000


def longer(study: dict) -> dict:
    """The study with seeds and iterations changed."""
    task = study["tasks"]["lumbar"]
    task["models"] = {
        "gan": {"seeds": SEEDS},
        "shuffled": {"shuffle_pairs": True, "seeds": SEEDS},
    }
    study["train"] |= {
        "constant_iterations": ITERATIONS // 2,
        "decay_iterations": ITERATIONS // 2,
        "total_iterations": ITERATIONS,
    }
    return study


if __name__ == "__main__":
    demo = Path(__file__).parents[1] / "config/config.yaml"
    print(yaml.safe_dump(longer(yaml.safe_load(demo.read_text())), sort_keys=False))

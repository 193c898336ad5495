"""From packs to synthetic images.

Inputs: results/pack/ (train and validation for training, test for synthesis)
Outputs: results/forecast/, results/train/, results/synthesize/
Steps: forecast (only when asked for), train (rolling state.pt beside the outputs is not an output: a failed job resumes from it), synthesize
"""


include: "../inputs/learn.smk"


rule forecast:
    """Time a few steps of every model on made-up images: hours and memory of the whole study, its total on top."""
    output:
        table="results/forecast/forecast.tsv",
    log:
        "logs/forecast/forecast.log",
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        gpu=1,
        mem_mb=16000,
    params:
        cfg=forecast_settings(),
        code=lambda w: forecast_code(),
    script:
        "../scripts/forecast.py"


rule train:
    """Train one model on the training role of one fold; the validation role is watched, the test never opened."""
    input:
        train="results/pack/{task}/fold-{fold}/train.npz",
        validation="results/pack/{task}/fold-{fold}/validation.npz",
        source_pool=lambda w: pool_pack(w, "source_pool"),
        target_pool=lambda w: pool_pack(w, "target_pool"),
    output:
        weights="results/train/{task}/{model}/fold-{fold}/weights.safetensors",
        history="results/train/{task}/{model}/fold-{fold}/history.jsonl",
        options="results/train/{task}/{model}/fold-{fold}/options.json",
    log:
        "logs/train/{task}/{model}/fold-{fold}.log",
    benchmark:
        "results/benchmarks/train/{task}/{model}/fold-{fold}.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        gpu=lambda w: cards(w),
        mem_mb=16000,
    params:
        cfg=settings("train"),
        code=lambda w: train_code(w),
    script:
        "../scripts/train.py"


rule synthesize:
    """Synthesise the test role's images with the trained generator."""
    input:
        weights="results/train/{task}/{model}/fold-{fold}/weights.safetensors",
        options="results/train/{task}/{model}/fold-{fold}/options.json",
        pack="results/pack/{task}/fold-{fold}/test.npz",
    output:
        synthetic="results/synthesize/{task}/{model}/fold-{fold}.npz",
    log:
        "logs/synthesize/{task}/{model}/fold-{fold}.log",
    benchmark:
        "results/benchmarks/synthesize/{task}/{model}/fold-{fold}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=1,
        mem_mb=8000,
    params:
        cfg=settings("synthesize"),
        code=code("synthesize"),
    script:
        "../scripts/synthesize.py"

"""From synthetic images to tables, figures and the closing summary.

Inputs: results/synthesize/, results/pack/
Outputs: results/evaluate/, results/summarize/, results/plot/, results/conclude/
Steps: evaluate (one long table per model and fold), summarize, plot, conclude
"""


include: "../inputs/assess.smk"


rule evaluate:
    """Measure the synthetic test images and the baselines fitted on the training role, slice by slice."""
    input:
        synthetic="results/synthesize/{task}/{model}/fold-{fold}.npz",
        test="results/pack/{task}/fold-{fold}/test.npz",
        train="results/pack/{task}/fold-{fold}/train.npz",
    output:
        table="results/evaluate/{task}/{model}/fold-{fold}.tsv",
    log:
        "logs/evaluate/{task}/{model}/fold-{fold}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: evaluate_settings(w),
        code=code("evaluate"),
    script:
        "../scripts/evaluate.py"


rule summarize:
    """Tables in the papers' form and beyond, the subject as the unit, baselines beside every model."""
    input:
        tables=lambda w: evaluations(w),
    output:
        table=report(
            "results/summarize/{task}/{table}.tsv",
            caption="../report/table.rst",
            category="Tables",
            labels={"task": "{task}", "table": "{table}"},
        ),
        text="results/summarize/{task}/{table}.md",
    log:
        "logs/summarize/{task}/{table}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: summarize_settings(w),
        code=code("summarize"),
    script:
        "../scripts/summarize.py"


rule plot:
    """Figures: input, synthetic, real, error; training curves; errors per subject and method."""
    input:
        synthetic=lambda w: of_task(
            w, "results/synthesize/{task}/{model}/fold-{fold}.npz"
        ),
        tests=lambda w: expand(
            "results/pack/{task}/fold-{fold}/test.npz",
            task=w.task,
            fold=labels_of_task(w)["folds"],
        ),
        histories=lambda w: of_task(
            w, "results/train/{task}/{model}/fold-{fold}/history.jsonl"
        ),
        tables=lambda w: of_task(w, "results/evaluate/{task}/{model}/fold-{fold}.tsv"),
    output:
        figure=report(
            "results/plot/{task}/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"task": "{task}", "figure": "{figure}"},
        ),
    log:
        "logs/plot/{task}/{figure}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: plot_settings(w),
        code=code("plot"),
    script:
        "../scripts/plot.py"


rule conclude:
    """Say what was made, where, and what was left out and why."""
    input:
        records=lambda w: every_record(w),
        packs=lambda w: [path.replace(".npz", ".json") for path in every_pack()],
        options=lambda w: per_model(
            "results/train/{task}/{model}/fold-{fold}/options.json"
        ),
        tables=lambda w: every_table(),
        figures=lambda w: every_figure(),
    output:
        summary=report(
            "results/conclude/summary.md",
            caption="../report/summary.rst",
            category="Summary",
        ),
        status="results/conclude/status.json",
        study="results/conclude/study.yaml",
        versions="results/conclude/versions.json",
    log:
        "logs/conclude/conclude.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: conclude_settings(w),
        code=code("conclude"),
    script:
        "../scripts/conclude.py"


rule enforce:
    """Apply the exit policy: with `on_refusal: fail` a run that left a subject out ends with an error."""
    input:
        status="results/conclude/status.json",
    output:
        passed="results/enforce/passed.txt",
    log:
        "logs/enforce/enforce.log",
    conda:
        ENVIRONMENT
    params:
        cfg={},
        code=code("enforce"),
    script:
        "../scripts/enforce.py"

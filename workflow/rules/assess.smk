"""From synthetic images to tables, figures and the closing summary.

Inputs: results/synthesize/, results/pack/
Outputs: results/evaluate/, results/summarize/, results/plot/, results/conclude/
Steps: evaluate (one long table per model and fold), summarize, plot, conclude
"""


def of_task(w, pattern):
    """A path pattern expanded over the models and folds of one task."""
    folds = range(STUDY.config["cohort"]["folds"])
    return expand(pattern, task=w.task, model=STUDY.models[w.task], fold=folds)


def labels_of_task(w):
    """Models and folds in the order of `of_task`'s paths."""
    folds = range(STUDY.config["cohort"]["folds"])
    labels = [(model, fold) for model in STUDY.models[w.task] for fold in folds]
    return {
        "models": [model for model, _ in labels],
        "folds": [fold for _, fold in labels],
    }


def evaluations(w):
    """Long tables of a task; asks for the cohort first, which `summarize_settings` needs as well."""
    cohort_rows()
    return of_task(w, "results/evaluate/{task}/{model}/fold-{fold}.tsv")


def every_table():
    """Tables of every task."""
    return expand(
        "results/summarize/{task}/{table}.tsv", task=STUDY.tasks, table=TABLES
    )


def every_figure():
    """Figures of every task."""
    return expand("results/plot/{task}/{figure}.png", task=STUDY.tasks, figure=FIGURES)


def every_record(w):
    """Records of every subject at every stage that can refuse one."""
    records = []
    for task in STUDY.tasks:
        for subject in paired(task):
            records += volumes(task, subject, "source", ".json")
            records += volumes(task, subject, "target", ".json")
            for stage in ("resample", "warp", "window", "pick", "crop"):
                records.append(f"results/{stage}/{task}/sub-{subject}.json")
            if STUDY.task(task)["alignment"] != "none":
                records.append(f"results/register/{task}/sub-{subject}.json")
            if STUDY.block("pick", task)["slices"] != "all":
                records.append(f"results/locate/sub-{subject}.json")
    return sorted(set(records))


def closing():
    """The last files of a run: what `all` asks for."""
    return [
        "results/conclude/summary.md",
        *every_table(),
        *every_figure(),
        *(
            ["results/enforce/passed.txt"]
            if STUDY.config["on_refusal"] == "fail"
            else []
        ),
    ]


def evaluate_settings(w):
    """Settings of `evaluate` with the names that go into the table."""
    names = {"task": w.task, "model": w.model, "fold": int(w.fold)}
    return STUDY.block("evaluate", w.task) | names


def summarize_settings(w):
    """Settings of `summarize` with the task's rows of the inclusion flow."""
    flow = sheet.flow(cohort_rows(), w.task)
    return STUDY.block("summarize", w.task) | {
        "flow": flow,
        "controls": STUDY.controls(w.task),
    }


def plot_settings(w):
    """Settings of `plot` with the models and folds of the inputs, in order."""
    extra = labels_of_task(w) | {"controls": STUDY.controls(w.task), "task": w.task}
    return STUDY.block("plot", w.task) | extra


def conclude_settings(w):
    """Settings of `conclude` with what the cohort left out before any job."""
    return STUDY.block("conclude") | {
        "excluded": sheet.excluded(cohort_rows()),
        "on_refusal": STUDY.config["on_refusal"],
        "study": STUDY.public(),
    }


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
    params:
        cfg={},
        code=code("enforce"),
    script:
        "../scripts/enforce.py"

"""Inputs and settings of the rules of assessment: evaluate, summarize, plot, conclude, enforce."""

from types import SimpleNamespace


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
        for subject in subjects_of(task):
            records += volumes(task, subject, "source", ".json")
            records += volumes(task, subject, "target", ".json")
            for stage in ("resample", "warp", "window", "pick", "crop"):
                records.append(f"results/{stage}/{task}/sub-{subject}.json")
            own = SimpleNamespace(task=task, subject=subject)
            records += [path for path in (registration(own), landmarks(own)) if path]
    return sorted(set(records))


def closing():
    """The last files of a run: what `all` asks for."""
    return [
        "results/conclude/summary.md",
        *every_table(),
        *every_figure(),
        *every_page(),
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
        "noted": sheet.noted(cohort_rows()),
        "on_refusal": STUDY.config["on_refusal"],
        "study": STUDY.public(),
    }

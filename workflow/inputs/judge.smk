"""Inputs and settings of the rules for people: show, review."""


def figure_beside(record):
    """The figure beside a record, where the task has that record."""
    return record.replace(".json", ".png") if record else []


def native_of_landmarks(w):
    """The native volume in whose frame the landmarks are, where the task uses landmarks."""
    return landmark_ct(w) if landmarks(w) else []


def shown(w, ending):
    """Cards of all included pairs of a task, or their records."""
    return [
        f"results/show/{w.task}/sub-{subject}{ending}" for subject in paired(w.task)
    ]


def every_page():
    """The review pages of all tasks."""
    return expand("results/review/{task}.html", task=STUDY.tasks)


def show_settings(w):
    """Settings of `show` with the task's images and the landmarks' frame."""
    task, image = STUDY.task(w.task), STUDY.block("locate")["image"]
    return STUDY.block("show", w.task) | {
        "labels": {side: task[side] for side in ("source", "target")},
        "side": "source" if task["source"] == image else "target",
        "landmarks_frame": landmarks_frame(w.task, w.subject),
        "slices": STUDY.block("pick", w.task)["slices"],
    }


def review_settings(w):
    """Settings of `review` with the subjects in the order of their cards and the study's own mark."""
    key = pseudonym.read_key(STUDY.config["private"], STUDY.config["key_hex"])
    mark = pseudonym.pseudonym(key, "review", w.task)
    return {"task": w.task, "subjects": paired(w.task), "study": mark}

"""Settings of the rules of slices: window, pick, crop."""


def window_settings(w):
    """Settings of `window` with the modality of either side."""
    task, images = STUDY.task(w.task), STUDY.config["images"]
    block = STUDY.block("window", w.task)
    for side in ("source", "target"):
        block[side]["kind"] = images[task[side]]["modality"].lower()
    return block


def pick_settings(w):
    """Settings of `pick` with the frame in which the landmarks are given and the points that people moved."""
    task, image = STUDY.task(w.task), STUDY.block("locate")["image"]
    frame = "fixed" if task[task["fixed"]] == image else "moving"
    moved = sheet.moves(Path(STUDY.config["review"]), w.task, w.subject)
    return STUDY.block("pick", w.task) | {"landmarks_frame": frame, "moved": moved}

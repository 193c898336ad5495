"""Settings of the rules of slices: window, pick, crop."""


def window_settings(w):
    """Settings of `window` with the modality of either side."""
    task, images = STUDY.task(w.task), STUDY.config["images"]
    block = STUDY.block("window", w.task)
    for side in ("source", "target"):
        block[side]["kind"] = images[task[side]]["modality"].lower()
    return block | {"only": side_of(w.task, w.subject)}


def pick_settings(w):
    """Settings of `pick` with the frame in which the landmarks are given and the points that people moved."""
    moved = sheet.moves(Path(STUDY.config["review"]), w.task, w.subject)
    frame = {"landmarks_frame": landmarks_frame(w.task, w.subject)}
    return STUDY.block("pick", w.task) | frame | {"moved": moved}


def crop_settings(w):
    """Settings of `crop` with the frame in which the landmarks are given."""
    frame = {"landmarks_frame": landmarks_frame(w.task, w.subject)}
    return STUDY.block("crop", w.task) | frame


def landmarks_frame(name, subject):
    """Which image of a task holds the landmarks: the fixed or the moving one; the only one is fixed."""
    if side_of(name, subject):
        return "fixed"
    task, image = STUDY.task(name), STUDY.block("locate")["image"]
    return "fixed" if task[task["fixed"]] == image else "moving"


def disc_landmarks(w):
    """The landmarks, where slices are picked by disc: the crops' figure draws them."""
    return landmarks(w) if STUDY.block("pick", w.task)["slices"] == "discs" else []


def disc_native(w):
    """The native volume in whose frame these landmarks are."""
    return landmark_ct(w) if disc_landmarks(w) else []

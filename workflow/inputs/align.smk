"""Inputs and settings of the rules of alignment: locate, resample, register, warp."""


def volumes(task, subject, side, ending=".nii.gz"):
    """Converted files of one side (source or target), one per stack; none of a side that a subject lacks."""
    row = row_of(task, subject)
    if not row[f"{side}_series"]:
        return []
    names = sheet.stack_names(row[side], int(row[f"{side}_stacks"]))
    return [f"results/convert/sub-{subject}_{name}{ending}" for name in names]


def sides(w):
    """Both sides by their part in the alignment: (fixed, moving); a subject's only side is the fixed one."""
    fixed = side_of(w.task, w.subject) or STUDY.task(w.task)["fixed"]
    return fixed, "source" if fixed == "target" else "target"


def sources(w):
    """Source volumes of a pair."""
    return volumes(w.task, w.subject, "source")


def targets(w):
    """Target volumes of a pair."""
    return volumes(w.task, w.subject, "target")


def converted_records(w):
    """Records of both sides' conversion."""
    return [
        path for side in sides(w) for path in volumes(w.task, w.subject, side, ".json")
    ]


def moving_volumes(w):
    """Native volumes of the moving side, so that it is interpolated once only."""
    return volumes(w.task, w.subject, sides(w)[1])


def moving_fields(w):
    """Masks of what the moving side measured: its padding is no data."""
    return volumes(w.task, w.subject, sides(w)[1], "_field.nii.gz")


def fixed_fields(w):
    """Masks of what the fixed side measured."""
    return volumes(w.task, w.subject, sides(w)[0], "_field.nii.gz")


def fixed_records(w):
    """Records of the fixed side's conversion: the slice thickness to average over."""
    return volumes(w.task, w.subject, sides(w)[0], ".json")


def bridge(w, ending=".nii.gz"):
    """The image that shares the fixed side's frame of reference, where the task names one and the subject has it."""
    row = row_of(w.task, w.subject)
    name = STUDY.task(w.task)["bridge"]
    if not (name and row["bridge_series"]):
        return []
    return f"results/convert/sub-{w.subject}_{name}{ending}"


def landmark_ct(w, ending=".nii.gz"):
    """The native CT on which a subject's discs are looked for."""
    image = STUDY.block("locate")["image"]
    name = sheet.landmark_image(cohort_rows(), w.subject, image)
    return f"results/convert/sub-{w.subject}_{name}{ending}"


def locate_settings(w):
    """Settings of `locate`; which image and which file it looks at is already in its inputs."""
    block = STUDY.block("locate")
    return {key: value for key, value in block.items() if key not in ("image", "file")}


def landmark_file(w):
    """The user's own labels or landmarks of a subject, where the study names such files."""
    block = STUDY.block("locate")
    if block["source"] == "auto":
        return []
    if block["source"] == "totalsegmentator":
        return f"results/segment/sub-{w.subject}.nii.gz"
    return existing(block["file"].format(subject=w.subject))


def segment_record(w):
    """The record of `segment`, where the landmarks come from its labels: its refusal is passed on."""
    if STUDY.block("locate")["source"] != "totalsegmentator":
        return []
    return f"results/segment/sub-{w.subject}.json"


def landmarks(w):
    """The subject's landmarks, where the task chooses slices by disc and the subject has the image for them."""
    if STUDY.block("pick", w.task)["slices"] == "all":
        return []
    only = side_of(w.task, w.subject)
    if only and STUDY.task(w.task)[only] != STUDY.block("locate")["image"]:
        return []
    return f"results/locate/sub-{w.subject}.json"


def register_mask(w, side):
    """The user's mask of one side (source or target), where the study names such files and the subject has one."""
    block = STUDY.block("register", w.task)
    if block["mask"] != "user" or block["mask_files"] is None:
        return []
    return existing(block["mask_files"].format(subject=w.subject, side=side))


def register_settings(w):
    """Settings of `register` with the fixed side of the pair and the landmarks' frame; the mask files are already in its inputs."""
    block = STUDY.block("register", w.task) | {
        "fixed": STUDY.task(w.task)["fixed"],
        "landmarks_frame": landmarks_frame(w.task, w.subject),
    }
    return {key: value for key, value in block.items() if key != "mask_files"}


def warp_settings(w):
    """Settings of `warp` with the fixed side and the kind of alignment: `alone` for a subject with one side."""
    task, only = STUDY.task(w.task), side_of(w.task, w.subject)
    return STUDY.block("warp", w.task) | {
        "fixed": only or task["fixed"],
        "alignment": "alone" if only else task["alignment"],
    }


def disc_planes(w):
    """Landmarks of a subject without an MR, on whose disc planes the CT is then reformatted."""
    by_disc = STUDY.block("pick", w.task)["slices"] == "discs"
    return landmarks(w) if side_of(w.task, w.subject) == "source" and by_disc else []


def registration(w):
    """The registration's record, where the task needs one and the subject is a pair."""
    if STUDY.task(w.task)["alignment"] == "none" or side_of(w.task, w.subject):
        return []
    return f"results/register/{w.task}/sub-{w.subject}.json"

"""From volumes to images on one grid.

Inputs: results/convert/
Outputs: results/locate/, results/resample/, results/register/, results/warp/
Steps: locate (disc planes in the native CT), resample, register (fixed to moving points), warp
"""


def volumes(task, subject, side, ending=".nii.gz"):
    """Converted files of one side (source or target) of a pair, one per stack."""
    row = row_of(task, subject)
    names = sheet.stack_names(row[side], int(row[f"{side}_stacks"]))
    return [f"results/convert/sub-{subject}_{name}{ending}" for name in names]


def sides(w):
    """Both sides of a pair by their part in the alignment: (fixed, moving)."""
    fixed = STUDY.task(w.task)["fixed"]
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
    return existing(block["file"].format(subject=w.subject))


def landmarks(w):
    """The subject's landmarks, where the task chooses slices by disc."""
    if STUDY.block("pick", w.task)["slices"] == "all":
        return []
    return f"results/locate/sub-{w.subject}.json"


def register_settings(w):
    """Settings of `register` with the fixed side of the pair."""
    return STUDY.block("register", w.task) | {"fixed": STUDY.task(w.task)["fixed"]}


def warp_settings(w):
    """Settings of `warp` with the fixed side and the kind of alignment."""
    task = STUDY.task(w.task)
    return STUDY.block("warp", w.task) | {
        "fixed": task["fixed"],
        "alignment": task["alignment"],
    }


def registration(w):
    """The registration's record, where the task needs one."""
    if STUDY.task(w.task)["alignment"] == "none":
        return []
    return f"results/register/{w.task}/sub-{w.subject}.json"


rule locate:
    """Find canal and discs in the native CT: centres, planes, levels, sac and body edges; no MR needed."""
    input:
        ct=lambda w: landmark_ct(w),
        record_in=lambda w: landmark_ct(w, ".json"),
        file=lambda w: landmark_file(w),
    output:
        record="results/locate/sub-{subject}.json",
        figure=report(
            "results/locate/sub-{subject}.png",
            caption="../report/landmarks.rst",
            category="Checks",
            subcategory="locate",
            labels={"subject": "{subject}"},
        ),
    log:
        "logs/locate/sub-{subject}.log",
    benchmark:
        "results/benchmarks/locate/sub-{subject}.tsv"
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: locate_settings(w),
        code=code("locate"),
    script:
        "../scripts/locate.py"


rule resample:
    """Bring both sides of a pair to the task's grid, low-pass filtered; the native grid where no spacing is set."""
    input:
        source=sources,
        target=targets,
        records=lambda w: converted_records(w),
    output:
        stacks=directory("results/resample/{task}/sub-{subject}"),
        record="results/resample/{task}/sub-{subject}.json",
    log:
        "logs/resample/{task}/sub-{subject}.log",
    params:
        cfg=settings("resample"),
        code=code("resample"),
    script:
        "../scripts/resample.py"


rule register:
    """Find the transform from fixed to moving points by mutual information, per stack where there are several."""
    input:
        stacks="results/resample/{task}/sub-{subject}",
        record_in="results/resample/{task}/sub-{subject}.json",
        landmarks=landmarks,
        bridge=lambda w: bridge(w),
        bridge_record=lambda w: bridge(w, ".json"),
    output:
        transform="results/register/{task}/sub-{subject}.tfm",
        record="results/register/{task}/sub-{subject}.json",
        figure=report(
            "results/register/{task}/sub-{subject}.png",
            caption="../report/registration.rst",
            category="Checks",
            subcategory="register",
            labels={"task": "{task}", "subject": "{subject}"},
        ),
    log:
        "logs/register/{task}/sub-{subject}.log",
    benchmark:
        "results/benchmarks/register/{task}/sub-{subject}.tsv"
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: register_settings(w),
        code=code("register"),
    script:
        "../scripts/register.py"


rule warp:
    """Reformat the moving image on the fixed slices' own planes, averaged over their thickness."""
    input:
        moving=lambda w: moving_volumes(w),
        fixed_records=lambda w: fixed_records(w),
        stacks="results/resample/{task}/sub-{subject}",
        record_in="results/resample/{task}/sub-{subject}.json",
        registration=lambda w: registration(w),
    output:
        stacks=directory("results/warp/{task}/sub-{subject}"),
        record="results/warp/{task}/sub-{subject}.json",
    log:
        "logs/warp/{task}/sub-{subject}.log",
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: warp_settings(w),
        code=code("warp"),
    script:
        "../scripts/warp.py"

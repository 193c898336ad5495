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


def sources(w):
    """Source volumes of a pair."""
    return volumes(w.task, w.subject, "source")


def targets(w):
    """Target volumes of a pair."""
    return volumes(w.task, w.subject, "target")


def target_records(w):
    """Records of the target's conversion: slice thickness, for one."""
    return volumes(w.task, w.subject, "target", ".json")


def source_records(w):
    """Records of the source's conversion."""
    return volumes(w.task, w.subject, "source", ".json")


def landmark_ct(w, ending=".nii.gz"):
    """The native CT on which a subject's discs are looked for."""
    image = STUDY.block("locate")["image"]
    name = sheet.landmark_image(cohort_rows(), w.subject, image)
    return f"results/convert/sub-{w.subject}_{name}{ending}"


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
    output:
        record="results/locate/sub-{subject}.json",
        figure="results/locate/sub-{subject}.png",
    log:
        "logs/locate/sub-{subject}.log",
    benchmark:
        "results/benchmarks/locate/sub-{subject}.tsv"
    resources:
        mem_mb=4000,
    params:
        cfg=settings("locate"),
        code=code("locate"),
    script:
        "../scripts/locate.py"


rule resample:
    """Bring both sides of a pair to the task's grid, low-pass filtered; the native grid where no spacing is set."""
    input:
        source=sources,
        target=targets,
        source_records=source_records,
        target_records=target_records,
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
    output:
        transform="results/register/{task}/sub-{subject}.tfm",
        record="results/register/{task}/sub-{subject}.json",
        figure="results/register/{task}/sub-{subject}.png",
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
        source=sources,
        target=targets,
        target_records=target_records,
        source_records=source_records,
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

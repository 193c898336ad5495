"""From volumes to images on one grid.

Inputs: results/convert/
Outputs: results/segment/ (only when asked for), results/locate/, results/resample/, results/register/, results/warp/
Steps: segment (by TotalSegmentator, only when asked for), locate (disc planes in the native CT), resample, register (fixed to moving points), warp
"""


include: "../inputs/align.smk"


rule segment:
    """Label the vertebrae by TotalSegmentator as the user has it; runs only with locate.source: totalsegmentator."""
    input:
        ct=lambda w: landmark_ct(w),
        record_in=lambda w: landmark_ct(w, ".json"),
    output:
        labels="results/segment/sub-{subject}.nii.gz",
        record="results/segment/sub-{subject}.json",
    log:
        "logs/segment/sub-{subject}.log",
    benchmark:
        "results/benchmarks/segment/sub-{subject}.tsv"
    conda:
        SEGMENT_ENVIRONMENT
    resources:
        mem_mb=16000,
    params:
        cfg=settings("segment"),
        code=code("segment"),
    script:
        "../scripts/segment.py"


rule locate:
    """Find canal and discs in the native CT: centres, planes, levels, sac and body edges; no MR needed."""
    input:
        ct=lambda w: landmark_ct(w),
        record_in=lambda w: landmark_ct(w, ".json"),
        file=lambda w: landmark_file(w),
        segment_record=lambda w: segment_record(w),
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
    conda:
        ENVIRONMENT
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
    conda:
        ENVIRONMENT
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
        source_mask=lambda w: register_mask(w, "source"),
        target_mask=lambda w: register_mask(w, "target"),
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
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: register_settings(w),
        code=code("register"),
    script:
        "../scripts/register.py"


rule warp:
    """Reformat the moving image on the fixed slices' own planes, averaged over their thickness; a CT alone on its discs' planes."""
    input:
        moving=lambda w: moving_volumes(w),
        moving_fields=lambda w: moving_fields(w),
        fixed_fields=lambda w: fixed_fields(w),
        fixed_records=lambda w: fixed_records(w),
        stacks="results/resample/{task}/sub-{subject}",
        record_in="results/resample/{task}/sub-{subject}.json",
        registration=lambda w: registration(w),
        planes=lambda w: disc_planes(w),
    output:
        stacks=directory("results/warp/{task}/sub-{subject}"),
        record="results/warp/{task}/sub-{subject}.json",
    log:
        "logs/warp/{task}/sub-{subject}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: warp_settings(w),
        code=code("warp"),
    script:
        "../scripts/warp.py"

"""From aligned volumes to the slices that are compared.

Inputs: results/warp/, results/locate/, results/register/
Outputs: results/window/, results/pick/, results/crop/
Steps: window (grey levels), pick (which slice for which disc), crop (body-sized, no interpolation)
"""


include: "../inputs/slices.smk"


rule window:
    """Map HU by a window and MR signal by one robust range per volume to 256 grey levels."""
    input:
        stacks="results/warp/{task}/sub-{subject}",
        record_in="results/warp/{task}/sub-{subject}.json",
    output:
        stacks=directory("results/window/{task}/sub-{subject}"),
        record="results/window/{task}/sub-{subject}.json",
    log:
        "logs/window/{task}/sub-{subject}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: window_settings(w),
        code=code("window"),
    script:
        "../scripts/window.py"


rule pick:
    """Choose for each disc the slice nearest its mid-plane; the others stay listed with the reason."""
    input:
        stacks="results/warp/{task}/sub-{subject}",
        record_in="results/warp/{task}/sub-{subject}.json",
        landmarks=landmarks,
        registration=lambda w: registration(w),
    output:
        table="results/pick/{task}/sub-{subject}.tsv",
        record="results/pick/{task}/sub-{subject}.json",
    log:
        "logs/pick/{task}/sub-{subject}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: pick_settings(w),
        code=code("pick"),
    script:
        "../scripts/pick.py"


rule crop:
    """Cut body-sized crops around the thecal sac by whole pixels, one file per subject, keyed by disc."""
    input:
        stacks="results/window/{task}/sub-{subject}",
        record_in="results/window/{task}/sub-{subject}.json",
        picks="results/pick/{task}/sub-{subject}.tsv",
        picks_record="results/pick/{task}/sub-{subject}.json",
        landmarks=lambda w: disc_landmarks(w),
        native=lambda w: disc_native(w),
        registration=lambda w: registration(w),
    output:
        crops="results/crop/{task}/sub-{subject}.npz",
        record="results/crop/{task}/sub-{subject}.json",
        figure=report(
            "results/crop/{task}/sub-{subject}.png",
            caption="../report/crops.rst",
            category="Checks",
            subcategory="crop",
            labels={"task": "{task}", "subject": "{subject}"},
        ),
    log:
        "logs/crop/{task}/sub-{subject}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: crop_settings(w),
        code=code("crop"),
    script:
        "../scripts/crop.py"

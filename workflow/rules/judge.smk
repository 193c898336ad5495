"""From aligned slices to what a person judges.

Inputs: results/window/, results/pick/, results/register/, results/locate/, results/convert/, config/review.tsv
Outputs: results/show/, results/review/
Steps: show (one subject's views), review (one self-contained page per task, worst first; readers' agreement)
"""


include: "../inputs/judge.smk"


rule show:
    """Draw one subject's views for the page: each slice with its disc, a sagittal cut along the spine, the figures."""
    input:
        stacks="results/window/{task}/sub-{subject}",
        record_in="results/window/{task}/sub-{subject}.json",
        picks="results/pick/{task}/sub-{subject}.tsv",
        picks_record="results/pick/{task}/sub-{subject}.json",
        landmarks=landmarks,
        landmarks_figure=lambda w: figure_beside(landmarks(w)),
        native=lambda w: native_of_landmarks(w),
        registration=lambda w: registration(w),
        registration_figure=lambda w: figure_beside(registration(w)),
    output:
        card="results/show/{task}/sub-{subject}.jsonl",
        record="results/show/{task}/sub-{subject}.json",
    log:
        "logs/show/{task}/sub-{subject}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=3000,
    params:
        cfg=lambda w: show_settings(w),
        code=code("show"),
    script:
        "../scripts/show.py"


rule review:
    """Put all subjects of a task on one page, worst first, to accept, reject and move points; sum up readers' agreement."""
    input:
        cards=lambda w: shown(w, ".jsonl"),
        records=lambda w: shown(w, ".json"),
        review=existing(STUDY.config["review"]),
    output:
        page="results/review/{task}.html",
        agreement="results/review/{task}.tsv",
    log:
        "logs/review/{task}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: review_settings(w),
        code=code("review"),
    script:
        "../scripts/review.py"

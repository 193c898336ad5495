"""From raw DICOM to volumes.

Inputs: the DICOM trees of `dicom`, config/cohort.tsv (the user's sheet, optional)
Outputs: results/index/, results/cohort/, results/convert/
Steps: phantom (the demo's input), index, cohort, convert
"""

PHANTOMS = "results/phantom/dicom"


def phantom_folders():
    """The demo's DICOM folders, where the study makes its own input."""
    numbers = (
        range(1, STUDY.block("phantom")["subjects"] + 1) if "phantom" in config else []
    )
    return [f"{PHANTOMS}/{number}" for number in numbers]


def existing(path):
    """The path as a list, empty where the user has no such file."""
    return [path] if Path(path).exists() else []


def phantom_settings(w):
    """Settings of one digital subject: what the others are like is not its business."""
    block = STUDY.block("phantom")
    del block["subjects"]
    number = int(w.phantom)
    kinds = (block["awkward"] or {}).items()
    return block | {
        "awkward": {kind: [number] for kind, numbers in kinds if number in numbers}
    }


def index_settings(w):
    """Settings of `index` and a digest of the trees: new scans rerun it when it is asked for."""
    tree = study.tree_key(STUDY, made=PHANTOMS)
    return STUDY.block("index") | {"private": STUDY.config["private"], "tree": tree}


def cohort_settings(w):
    """Settings of `cohort` with the images and tasks that it serves, and their digest for the next start."""
    names = {
        "images": STUDY.config["images"],
        "tasks": {task: STUDY.pair(task) for task in STUDY.tasks},
        "settings": study.cohort_key(STUDY),
    }
    return STUDY.block("cohort") | {"private": STUDY.config["private"]} | names


def convert_settings(w):
    """Settings of `convert` with the stack's number within its series."""
    return STUDY.block("convert") | {"stack": sheet.stack_number(w.image)}


def series_files(w):
    """The private list of a series' files: changes only when the files that matter change."""
    bridges = {task: STUDY.task(task)["bridge"] for task in STUDY.tasks}
    series = sheet.series_of(cohort_rows(), w.subject, w.image, bridges)
    return f"{STUDY.config['private']}/index/{series}.tsv"


rule phantom:
    """Make the raw DICOM of one subject of a digital lumbar-spine cohort, with its truth beside it."""
    output:
        dicom=directory("results/phantom/dicom/{phantom}"),
        truth=directory("results/phantom/truth/{phantom}"),
    log:
        "logs/phantom/{phantom}.log",
    benchmark:
        "results/benchmarks/phantom/{phantom}.tsv"
    resources:
        mem_mb=3000,
    params:
        cfg=lambda w: phantom_settings(w),
        code=code("phantom"),
    script:
        "../scripts/phantom.py"


rule index:
    """List every series and account for every file, from headers alone; identities stay in private/."""
    input:
        phantoms=phantom_folders(),
    output:
        series="results/index/series.tsv",
        files="results/index/files.tsv",
        tree="results/index/tree.json",
    log:
        "logs/index/index.log",
    benchmark:
        "results/benchmarks/index/index.tsv"
    threads: 8
    params:
        cfg=lambda w: index_settings(w),
        code=code("index"),
    script:
        "../scripts/index.py"


checkpoint cohort:
    """Choose series, pair source and target, exclude with a reason, give every subject its place in [0, 1)."""
    input:
        series="results/index/series.tsv",
        tree="results/index/tree.json",
        sheet=existing(STUDY.config["sheet"]),
    output:
        cohort="results/cohort/cohort.tsv",
        flow="results/cohort/flow.tsv",
        demographics="results/cohort/demographics.tsv",
        settings="results/cohort/settings.json",
    log:
        "logs/cohort/cohort.log",
    params:
        cfg=lambda w: cohort_settings(w),
        code=code("cohort"),
    script:
        "../scripts/cohort.py"


rule convert:
    """Turn one stack of one series into a volume in true HU or signal, LPS mm, checked slice by slice."""
    input:
        files=lambda w: series_files(w),
    output:
        image="results/convert/sub-{subject}_{image}.nii.gz",
        record="results/convert/sub-{subject}_{image}.json",
    log:
        "logs/convert/sub-{subject}_{image}.log",
    params:
        cfg=lambda w: convert_settings(w),
        code=code("convert"),
    script:
        "../scripts/convert.py"

"""Inputs and settings of the rules of ingestion: phantom, index, cohort, convert."""

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


def private_lists(*names):
    """The user's private lists that exist: links of patient IDs, and who must not be in."""
    paths = [
        f"{STUDY.config['private']}/{name}.tsv"
        for name in names or ("links", "exclude")
    ]
    return [path for path in paths if Path(path).exists()]


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
    """The private list of a chosen series' files: changes only when their content does."""
    bridges = {task: STUDY.task(task)["bridge"] for task in STUDY.tasks}
    series = sheet.series_of(cohort_rows(), w.subject, w.image, bridges)
    return f"{STUDY.config['private']}/cohort/{series}.tsv"

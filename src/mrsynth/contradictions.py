"""Settings that are right one by one and impossible together, refused before any job starts."""

import re
from collections.abc import Iterator

from mrsynth.errors import StudyError

BASELINES = ("identity", "histogram", "mean_target", "lookup")
"""Names that the tables give to the predictions without a network."""

LEVEL = re.compile(r"(T(1[0-2]|[1-9])|L[1-6])-(T(1[0-2]|[1-9])|L[1-6]|S1)")


def check(study) -> None:
    """Raise the first contradiction of a study.

    Raises:
        StudyError: Naming the keys, their values and the remedy.
    """
    for message in (*_cohort(study), *_locate(study)):
        raise StudyError(message)
    for task in study.tasks:
        for message in _task(study, task):
            raise StudyError(f"task '{task}': {message}")


def _cohort(study) -> Iterator[str]:
    cohort = study.block("cohort")
    if cohort["folds"] == 1 and cohort["test"] + cohort["validation"] >= 1:
        yield (
            f"config keys 'cohort.test' = {cohort['test']} and 'cohort.validation' = "
            f"{cohort['validation']} leave nobody to train on; lower one"
        )


def _locate(study) -> Iterator[str]:
    locate = study.block("locate")
    file = locate["file"]
    if locate["image"] not in study.config["images"] and any(
        study.block("pick", task)["slices"] != "all" for task in study.tasks
    ):
        yield (
            f"config key 'locate.image' = '{locate['image']}' is not one of the images "
            f"({', '.join(study.config['images'])})"
        )
    if locate["source"] in ("labels", "landmarks") and (not file or "{subject}" not in file):
        yield (
            f"config key 'locate.source' = '{locate['source']}' needs 'locate.file', a path with "
            f"{{subject}} in it, such as 'landmarks/{{subject}}.tsv'; it is {file!r}"
        )


def _task(study, task: str) -> Iterator[str]:
    own = study.task(task)
    yield from _images(own)
    yield from _slices(study, task, own)
    yield from _numbers(study, task, own)
    yield from _measures(study, task)
    for model in study.models[task]:
        if model in BASELINES:
            yield f"a model can't be named '{model}': the tables give that name to a baseline"
        yield from _training(model, study.block("train", task, model), study.block("pack", task))
        yield from _pools(study, task, model)


def _images(own: dict) -> Iterator[str]:
    if own["bridge"] and own["bridge"] in (own["source"], own["target"]):
        yield f"'bridge' = '{own['bridge']}' is the source or the target itself; leave it out"
    if own["bridge"] and own["alignment"] == "none":
        yield "'bridge' has no use with 'alignment' = 'none'; leave one of them out"


def _slices(study, task: str, own: dict) -> Iterator[str]:
    pick, pack = study.block("pick", task), study.block("pack", task)
    image = study.block("locate")["image"]
    if pick["slices"] != "all" and image not in (own["source"], own["target"]):
        yield (
            f"'pick.slices' = '{pick['slices']}' needs landmarks in the frame of the source or "
            f"the target, but 'locate.image' = '{image}' is neither; set 'pick.slices' to 'all'"
        )
    if pick["slices"] != "discs" and pack["crop"] == "paper":
        yield (
            f"'pick.slices' = '{pick['slices']}' gives no disc landmarks, and 'pack.crop' = "
            "'paper' needs them; set 'pack.crop' to 'body' or 'none'"
        )
    for level in pick["levels"] or []:
        if not LEVEL.fullmatch(level):
            yield f"'pick.levels' holds '{level}'; a disc level looks like 'L4-L5' or 'L5-S1'"


def _numbers(study, task: str, own: dict) -> Iterator[str]:
    register, window = study.block("register", task), study.block("window", task)
    if len(register["levels_mm"]) != len(register["samples"]):
        yield (
            f"'register.levels_mm' = {register['levels_mm']} and 'register.samples' = "
            f"{register['samples']} must be of the same length, one number of samples per level"
        )
    files = register["mask_files"] or ""
    if register["mask"] == "user" and not all(part in files for part in ("{subject}", "{side}")):
        yield (
            "'register.mask' = 'user' needs 'register.mask_files', a path with {subject} and "
            "{side} in it, such as 'masks/sub-{subject}_{side}.nii.gz'; it is "
            f"{files or None!r}"
        )
    low, high = register["ct_window_hu"]
    if low >= high:
        yield f"'register.ct_window_hu' = {[low, high]} must run from low to high"
    for side in ("source", "target"):
        part = window[side]
        modality = study.config["images"][own[side]]["modality"]
        if part["lower_percentile"] >= part["upper_percentile"]:
            yield (
                f"'window.{side}.lower_percentile' = {part['lower_percentile']} is not below "
                f"'upper_percentile' = {part['upper_percentile']}"
            )
        if part["method"] == "window" and modality != "CT":
            yield (
                f"'window.{side}.method' = 'window' is a window in HU, but '{own[side]}' is "
                f"{modality}; use 'range' or 'auto'"
            )


def _measures(study, task: str) -> Iterator[str]:
    evaluate, summarize = study.block("evaluate", task), study.block("summarize", task)
    wanted = {
        "summarize.difference_region": summarize["difference_region"],
        "plot.region": study.block("plot", task)["region"],
        "conclude.region": study.block("conclude")["region"],
    }
    for key, region in wanted.items():
        if region not in evaluate["regions"]:
            yield f"'{key}' = '{region}' is not among 'evaluate.regions' = {evaluate['regions']}"
    if summarize["difference_metric"] not in evaluate["metrics"]:
        yield (
            f"'summarize.difference_metric' = '{summarize['difference_metric']}' is not among "
            f"'evaluate.metrics' = {evaluate['metrics']}"
        )


def _training(model: str, train: dict, pack: dict) -> Iterator[str]:
    planned = train["constant_iterations"] + train["decay_iterations"]
    if train["total_iterations"] > planned:
        yield (
            f"model '{model}': 'train.total_iterations' = {train['total_iterations']} exceeds "
            f"constant_iterations + decay_iterations = {planned}, after which the learning rate "
            "is 0; raise one of these"
        )
    if train["objective"] != "regression" and not _fits(train["discriminator"], min(pack["size"])):
        yield (
            f"model '{model}': images of 'pack.size' = {pack['size']} pixels shrink to nothing in "
            f"a discriminator with 'train.discriminator.strided' = "
            f"{train['discriminator']['strided']}; lower the one or raise the other"
        )


def _pools(study, task: str, model: str) -> Iterator[str]:
    """Only one side's image holds landmarks: the other side's subjects alone have none."""
    slices = study.block("pick", task)["slices"]
    alone = study.block("train", task, model)["unpaired"] == "pools"
    if slices != "all" and alone and study.needs_pools(task, model):
        yield (
            f"model '{model}': 'train.unpaired' = 'pools' trains on subjects with one image only, "
            f"and 'pick.slices' = '{slices}' needs landmarks, which only those with "
            f"'locate.image' = '{study.block('locate')['image']}' have; set 'train.unpaired' to "
            "'pairs' or 'all', or 'pick.slices' to 'all'"
        )


def _fits(discriminator: dict, side: int) -> bool:
    """Whether every normalised layer keeps two pixels a side (padding 1), as the net demands."""
    head, strided, tail = (discriminator[name] for name in ("head", "strided", "tail"))
    strides = [*[1] * head, *[2] * strided, *[1] * tail]
    for number, stride in enumerate(strides):
        side = (side + 2 - discriminator["kernel"]) // stride + 1
        if side < (2 if number < len(strides) - 1 else 1):
            return False
    return True

"""Adapter of `crop`: body-sized crops of the picked slices, and the figure to check them by."""

from mrsynth import job
from mrsynth.crop import IMAGES, crop, measures, posed_of, verdicts_of, write_npz
from mrsynth.cropfigure import along_spine, plot_crops, write_figure
from mrsynth.locate.landmarks import Landmarks
from mrsynth.pick import matrices_of, read_table
from mrsynth.show import moved_landmarks
from mrsynth.volume import read_stacks, read_volume


def work(job_):
    cfg = dict(job_.cfg)
    frame = cfg.pop("landmarks_frame")
    stacks = {name: read_stacks(job_.input.stacks, name) for name in IMAGES}
    picks = read_table(job_.input.picks)
    known, matrices = {}, None
    if job_.input.get("registration"):
        registration = job.read_json(job_.input.registration)
        count = len(stacks["target"])
        known["verdicts"] = verdicts_of(registration, count)
        known["posed"] = posed_of(registration, count)
        matrices = matrices_of(registration, count) if frame == "moving" else None
    crops = crop(**stacks, picks=picks, **known, **cfg)
    write_npz(crops, job_.output.crops)
    along = None
    if job_.input.get("landmarks"):
        landmarks = Landmarks.from_dict(job.read_json(job_.input.landmarks))
        moved = job.read_json(job_.input.picks_record).get("moved", [])
        landmarks, native = moved_landmarks(landmarks, moved), read_volume(job_.input.native)
        along = along_spine(native, landmarks, stacks["target"], matrices, picks, **cfg)
    write_figure(plot_crops(crops, along=along, **cfg), job_.output.figure)
    return {"slices": measures(crops)}


job.run(snakemake, work)

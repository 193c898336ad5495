"""Adapter of `show`: one subject's views for the review page."""

from mrsynth import job
from mrsynth.locate.landmarks import Landmarks
from mrsynth.pick import matrices_of, read_table
from mrsynth.show import card, moved_landmarks, write_card
from mrsynth.volume import read_stacks, read_volume


def work(job_):
    stacks = {name: read_stacks(job_.input.stacks, name) for name in ("source", "target")}
    moved = job.read_json(job_.input.picks_record).get("moved", [])
    landmarks, native, matrices, registration = None, None, None, {}
    figures = {}
    if job_.input.get("landmarks"):
        landmarks = Landmarks.from_dict(job.read_json(job_.input.landmarks))
        landmarks = moved_landmarks(landmarks, moved)
        native = read_volume(job_.input.native)
    if job_.input.get("registration"):
        registration = job.read_json(job_.input.registration)
        matrices = matrices_of(registration, len(stacks["target"]))
        figures["register"] = job_.input.registration_figure
    if job_.input.get("landmarks"):
        figures["locate"] = job_.input.landmarks_figure
    made = card(
        **stacks,
        picks=read_table(job_.input.picks),
        landmarks=landmarks,
        native=native,
        matrices=matrices,
        registration=registration,
        figures=figures,
        moved=moved,
        **job_.cfg,
    )
    write_card(made, job_.output.card)
    return {"views": len(made.content["views"]), "bytes": sum(map(len, made.pictures.values()))}


job.run(snakemake, work)

"""Adapter of `pick`: which slices are compared, for which disc, and why the others are not."""

from mrsynth import job
from mrsynth.locate.landmarks import Landmarks
from mrsynth.pick import matrices_of, move, pick, verdict_of, write_table
from mrsynth.volume import read_stacks


def work(job_):
    stacks = read_stacks(job_.input.stacks, "valid")
    cfg = dict(job_.cfg)
    moved = cfg.pop("moved", [])
    landmarks, matrices, known = None, None, {}
    if job_.input.get("landmarks"):
        landmarks = Landmarks.from_dict(job.read_json(job_.input.landmarks))
    landmarks, moved = move(landmarks, moved, cfg["slices"])
    if job_.input.get("registration"):
        registration = job.read_json(job_.input.registration)
        matrices = matrices_of(registration, len(stacks))
        known = {"verdict": verdict_of(registration)}
    table = pick(stacks, landmarks, matrices, **known, **cfg)
    write_table(table, job_.output.table)
    out = table.loc[table["status"] == "out", "code"].value_counts()
    picked = int((table["status"] == "picked").sum())
    return {"picked": picked, "out": out.to_dict(), "moved": moved} | known


job.run(snakemake, work)

"""Adapter of `review`: all cards of a task on one page, and the readers' agreement."""

from mrsynth import job
from mrsynth.agreement import agreement, write_agreement
from mrsynth.review import entries, page, stacks_of, write_page
from mrsynth.show import read_card
from mrsynth.verdicts import check_stacks, no_review, read_review, resolve


def work(job_):
    task, subjects = job_.cfg["task"], job_.cfg["subjects"]
    file = job_.input.get("review")
    review = read_review(file if isinstance(file, str) else file[0]) if file else no_review()
    found = dict(zip(subjects, map(read_card, job_.input.cards), strict=True))
    contents = {name: card[0] if card else None for name, card in found.items()}
    records = [job.read_json(path) for path in job_.input.records]
    listed = entries(subjects, list(contents.values()), records, resolve(review, task))
    stacks = {name: stacks_of(card) for name, card in contents.items()}
    check_stacks(review, task, stacks)
    agreed = agreement(review, task, stacks)
    write_agreement(agreed, job_.output.agreement)
    cards = {name: card for name, card in found.items() if card}
    rows = agreed.astype(object).where(agreed.notna(), None).to_dict("records")
    count = int((review["task"] == task).sum())
    write_page(page(task, job_.cfg["study"], listed, cards, rows, count), job_.output.page)


job.run(snakemake, work)

"""`phantom`: a digital lumbar-spine cohort, CT and MR of the same patients, with known truth."""

from mrsynth.phantom.subject import Subject, simulate

__all__ = ["Subject", "simulate"]

"""`phantom`: a digital lumbar-spine cohort, CT and MR of the same patients, with known truth."""

from mrsynth.phantom.subject import Subject, simulate
from mrsynth.phantom.write import make

__all__ = ["Subject", "make", "simulate"]

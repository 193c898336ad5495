"""mrsynth: raw DICOM of CT and MR to trained, evaluated image translators.

The package holds the science and knows nothing of Snakemake. World coordinates are LPS millimetres
(DICOM, ITK); arrays are (z, y, x); volumes are SimpleITK images, which carry their own geometry.
"""

__version__ = "0.1.0"

"""Which elements of a DICOM header are asked for, and what kind of value each has (PS3.6)."""

from pydicom.datadict import dictionary_VR, tag_for_keyword

TEXTS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "Modality",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "AcquisitionTime",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
    "ConvolutionKernel",
    "FilterType",
    "ContrastBolusAgent",
    "ContrastBolusRoute",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "DerivationDescription",
    "AcquisitionContrast",
    "EchoPulseSequence",
    "EchoPlanarPulseSequence",
    "InversionRecovery",
    "SpectrallySelectedSuppression",
    "PhotometricInterpretation",
    "LossyImageCompression",
    "RescaleType",
    "SyntheticData",
    "BurnedInAnnotation",
    "ComplexImageComponent",
    "VolumeBasedCalculationTechnique",
)
LISTS = ("ImageType", "ScanningSequence", "SequenceVariant", "ScanOptions")
NUMBERS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "NumberOfFrames",
    "MagneticFieldStrength",
    "KVP",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "EchoNumbers",
    "EchoTrainLength",
    "TriggerTime",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "ContrastBolusVolume",
    "SliceThickness",
    "ReconstructionDiameter",
    "RescaleSlope",
    "RescaleIntercept",
)
VECTORS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
NAMES = (*TEXTS, *LISTS, *NUMBERS, *VECTORS)
FRAME_NAMES = {
    "EffectiveEchoTime": "EchoTime",
    "InversionTimes": "InversionTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameType": "ImageType",
}
"""Elements that enhanced objects call by other names (PS3.3 C.7.6.16, C.8.13.5)."""
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
META = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")

NAMES_BY_TAG = {tag_for_keyword(name): name for name in (*NAMES, *FRAME_NAMES)}
VRS = {name: dictionary_VR(tag) for tag, name in NAMES_BY_TAG.items()}
TAGS = [tag_for_keyword(name) for name in (*NAMES, *GROUPS)]

"""Data elements of DICOM: how their values are coded, and which of them are wanted.

Source: DICOM PS3.5 2024e, sections 6.2 (value representations), 7.5 (sequences), annex A (transfer syntaxes); PS3.6.
"""

from __future__ import annotations

UNDEFINED = 0xFFFFFFFF
IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN, DEFLATED)  # pixel data as plain numbers
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
TEXT_VRS = set(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UI UC UR UT".split())
NUMBER_VRS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d", b"UV": "Q", b"SV": "q"}
VRS = LONG_VRS | TEXT_VRS | NUMBER_VRS.keys() | {b"AT"}
PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)  # shared, per frame
STRUCTURES = 0x3006  # group of contours, which may be hundreds of MB: nothing that is wanted comes behind
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

TAGS = {
    "TransferSyntaxUID": (0x00020010, b"UI"),
    "SpecificCharacterSet": (0x00080005, b"CS"),
    "ImageType": (0x00080008, b"CS"),
    "SOPClassUID": (0x00080016, b"UI"),
    "SOPInstanceUID": (0x00080018, b"UI"),
    "AcquisitionTime": (0x00080032, b"TM"),
    "ContentTime": (0x00080033, b"TM"),
    "Modality": (0x00080060, b"CS"),
    "Manufacturer": (0x00080070, b"LO"),
    "SeriesDescription": (0x0008103E, b"LO"),
    "PatientName": (0x00100010, b"PN"),
    "PatientID": (0x00100020, b"LO"),
    "SliceThickness": (0x00180050, b"DS"),
    "EchoTime": (0x00180081, b"DS"),
    "InversionTime": (0x00180082, b"DS"),
    "EchoNumbers": (0x00180086, b"IS"),
    "SpacingBetweenSlices": (0x00180088, b"DS"),
    "TriggerTime": (0x00181060, b"DS"),
    "FlipAngle": (0x00181314, b"DS"),
    "DiffusionBValue": (0x00189087, b"FD"),
    "DiffusionGradientOrientation": (0x00189089, b"FD"),
    "SiemensBValue": (0x0019100C, b"IS"),
    "StudyInstanceUID": (0x0020000D, b"UI"),
    "SeriesInstanceUID": (0x0020000E, b"UI"),
    "SeriesNumber": (0x00200011, b"IS"),
    "AcquisitionNumber": (0x00200012, b"IS"),
    "InstanceNumber": (0x00200013, b"IS"),
    "ImagePositionPatient": (0x00200032, b"DS"),
    "ImageOrientationPatient": (0x00200037, b"DS"),
    "FrameOfReferenceUID": (0x00200052, b"UI"),
    "TemporalPositionIdentifier": (0x00200100, b"IS"),
    "SamplesPerPixel": (0x00280002, b"US"),
    "PhotometricInterpretation": (0x00280004, b"CS"),
    "NumberOfFrames": (0x00280008, b"IS"),
    "Rows": (0x00280010, b"US"),
    "Columns": (0x00280011, b"US"),
    "PixelSpacing": (0x00280030, b"DS"),
    "BitsAllocated": (0x00280100, b"US"),
    "BitsStored": (0x00280101, b"US"),
    "HighBit": (0x00280102, b"US"),
    "PixelRepresentation": (0x00280103, b"US"),
    "PixelPaddingValue": (0x00280120, b"US"),
    "RescaleIntercept": (0x00281052, b"DS"),
    "RescaleSlope": (0x00281053, b"DS"),
    "RescaleType": (0x00281054, b"LO"),
    "LossyImageCompression": (0x00282110, b"CS"),
    "Units": (0x00541001, b"CS"),
    "PhilipsBValue": (0x20011003, b"FL"),
}
WANTED = frozenset(tag for tag, _ in TAGS.values())

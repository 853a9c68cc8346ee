"""De-identification by allow-list: an element that is not listed here does not travel, at any depth.

UIDs, patients and dates are replaced by a keyed hash (HMAC-SHA-256), so that references within a set stay whole and
nobody without the key can compute them. Text that is kept is searched for what the header gives away of the patient.
Source: DICOM PS3.15 2024e, annex E: table E.1-1 (basic profile), E.3.6 (modified dates), E.3.7 (characteristics).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define

from gen_core.errors import DataError
from gen_radiology.conversion.pseudonyms import Pseudonyms

PIXELS = """PixelData FloatPixelData DoubleFloatPixelData SamplesPerPixel PhotometricInterpretation PlanarConfiguration
Rows Columns NumberOfFrames BitsAllocated BitsStored HighBit PixelRepresentation PixelSpacing PixelPaddingValue
PixelPaddingRangeLimit SmallestImagePixelValue LargestImagePixelValue WindowCenter WindowWidth VOILUTFunction
RescaleIntercept RescaleSlope RescaleType PresentationLUTShape LossyImageCompression LossyImageCompressionRatio
LossyImageCompressionMethod BurnedInAnnotation RecognizableVisualFeatures SyntheticData Units"""
GEOMETRY = """ImagePositionPatient ImageOrientationPatient SliceThickness SpacingBetweenSlices SliceLocation
PatientPosition GantryDetectorTilt InstanceNumber SeriesNumber AcquisitionNumber TemporalPositionIdentifier
NumberOfTemporalPositions TemporalPositionIndex InStackPositionNumber DimensionIndexValues DimensionIndexPointer
FunctionalGroupPointer DimensionOrganizationType VolumetricProperties"""
ACQUISITION = """SpecificCharacterSet ImageType FrameType Modality Manufacturer ManufacturerModelName BodyPartExamined
Laterality KVP XRayTubeCurrent Exposure ExposureTime ConvolutionKernel ReconstructionDiameter DataCollectionDiameter
FilterType RotationDirection SingleCollimationWidth TotalCollimationWidth SpiralPitchFactor CTDIvol ScanningSequence
SequenceVariant ScanOptions MRAcquisitionType RepetitionTime EchoTime InversionTime FlipAngle EchoNumbers
EchoTrainLength NumberOfAverages ImagingFrequency ImagedNucleus MagneticFieldStrength PixelBandwidth PercentSampling
PercentPhaseFieldOfView AcquisitionMatrix InPlanePhaseEncodingDirection TriggerTime DiffusionBValue
DiffusionGradientOrientation SAR"""
STRUCTURES = """ROINumber ROIName ROIGenerationAlgorithm ROIDisplayColor ReferencedROINumber ContourGeometricType
NumberOfContourPoints ContourNumber ContourData ContourSlabThickness ObservationNumber RTROIInterpretedType"""
SEGMENTS = """SegmentNumber SegmentLabel SegmentAlgorithmType SegmentationType SegmentationFractionalType
MaximumFractionalValue SegmentsOverlap ReferencedSegmentNumber ReferencedFrameNumber ContentLabel CodeValue
CodingSchemeDesignator CodeMeaning RecommendedDisplayCIELabValue SpatialLocationsPreserved"""
SEQUENCES = """SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PlanePositionSequence
PlaneOrientationSequence PixelMeasuresSequence PixelValueTransformationSequence FrameContentSequence
FrameVOILUTSequence CTImageFrameTypeSequence MRImageFrameTypeSequence MREchoSequence MRDiffusionSequence
DimensionOrganizationSequence DimensionIndexSequence SegmentSequence SegmentIdentificationSequence
SegmentedPropertyCategoryCodeSequence SegmentedPropertyTypeCodeSequence ReferencedSeriesSequence
ReferencedInstanceSequence DerivationImageSequence SourceImageSequence DerivationCodeSequence
PurposeOfReferenceCodeSequence StructureSetROISequence ROIContourSequence ContourSequence ContourImageSequence
RTROIObservationsSequence ReferencedFrameOfReferenceSequence RTReferencedStudySequence RTReferencedSeriesSequence"""
KEPT = frozenset(" ".join((PIXELS, GEOMETRY, ACQUISITION, STRUCTURES, SEGMENTS, SEQUENCES)).split())
CLASS_UIDS = frozenset({"SOPClassUID", "ReferencedSOPClassUID"})  # kept where they are DICOM's own
NEW_UIDS = frozenset(
    """SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID ReferencedSOPInstanceUID
    ReferencedFrameOfReferenceUID DimensionOrganizationUID""".split()
)
DATES = frozenset({"StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"})
CHARACTERISTICS = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight"})
SIDECAR = frozenset(ACQUISITION.split()) - {"SpecificCharacterSet"} | {
    "SliceThickness", "SpacingBetweenSlices", "PatientPosition", "GantryDetectorTilt",
}  # fmt: skip
EMPTY = """StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID PatientBirthDate PatientSex"""
TEXTS = {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"}
TELLING = """PatientID OtherPatientIDs IssuerOfPatientID AccessionNumber StudyID InstitutionName InstitutionAddress
InstitutionalDepartmentName StationName DeviceSerialNumber PatientBirthDate PatientAddress PatientTelephoneNumbers
MilitaryRank EthnicGroup Occupation RequestedProcedureID ScheduledProcedureStepID OperatorsName"""
DICOM_ROOT = "1.2.840.10008."
NO_DATE = "19000101"  # where a date is mandatory
OLDEST = 89  # years; older patients are told as 90
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@define(eq=False)
class Cleaner:
    """Makes clean copies of data sets. dates: "remove" or "shift"; characteristics: sex, age, size and weight stay."""

    pseudonyms: Pseudonyms
    dates: str = "remove"
    characteristics: bool = False

    def clean(self, data: Any, patient: str | None = None) -> Any:
        """A new pydicom data set with what is listed; `data` stays as it is.

        patient: who it is, where PatientID does not say. Raises: DataError for overlays that cannot be cleared.
        """
        words = telling_words(data)
        copy = self._clean(data, words)
        patient = patient if patient is not None else str(data.get("PatientID", "") or "")
        name = self.pseudonyms.patient(patient)
        for keyword in EMPTY.split():
            setattr(copy, keyword, "")
        copy.PatientID = copy.PatientName = name
        for keyword in DATES if self.dates == "shift" else ():
            moved = self.pseudonyms.shifted(patient, str(data.get(keyword, "") or ""))
            if moved:
                setattr(copy, keyword, moved)
        for keyword in CHARACTERISTICS if self.characteristics else ():
            if data.get(keyword) not in (None, ""):
                setattr(copy, keyword, _no_outlier(keyword, data.get(keyword)))
        self._say(copy)
        self._mandatory(copy)
        _clear_embedded_overlays(data, copy)
        copy.file_meta = self._meta(data, copy)
        copy.preamble = bytes(128)
        return copy

    def _clean(self, data: Any, words: set[str]) -> Any:
        from pydicom.dataset import Dataset

        copy = Dataset()
        for element in data:
            keyword = element.keyword
            if element.tag.is_private or not keyword:
                continue
            if keyword in NEW_UIDS:
                if element.value:
                    setattr(copy, keyword, self.pseudonyms.uid(str(element.value)))
            elif keyword in CLASS_UIDS:
                if str(element.value).startswith(DICOM_ROOT):
                    setattr(copy, keyword, str(element.value))
            elif keyword not in KEPT or element.VR == "UN":
                continue
            elif element.VR == "SQ":
                setattr(copy, keyword, [self._clean(item, words) for item in element.value])
            elif element.VR in TEXTS and gives_away(element.value, words):
                if keyword in ("ROIName", "SegmentLabel"):
                    setattr(copy, keyword, f"region-{data.get('ROINumber', data.get('SegmentNumber', 0))}")
            else:
                copy.add_new(element.tag, element.VR, element.value)
        return copy

    def _say(self, copy: Any) -> None:
        from pydicom.dataset import Dataset

        done = [("113100", "Basic Application Confidentiality Profile")]
        if self.dates == "shift":
            done.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
        if self.characteristics:
            done.append(("113108", "Retain Patient Characteristics Option"))
        codes = []
        for value, meaning in done:
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
            codes.append(code)
        kept = self.pseudonyms.keep_ids
        copy.PatientIdentityRemoved = "NO" if kept else "YES"  # an identity that was kept is not called removed
        copy.DeidentificationMethod = "allow-list of gen" + ("; patient IDs kept" if kept else "")
        if not kept:
            copy.DeidentificationMethodCodeSequence = codes
        copy.LongitudinalTemporalInformationModified = "MODIFIED" if self.dates == "shift" else "REMOVED"

    def _mandatory(self, copy: Any) -> None:
        """What an object cannot be without, saying nothing."""
        if copy.get("StructureSetROISequence") is not None:
            copy.StructureSetLabel, copy.StructureSetDate, copy.StructureSetTime = "structures", "", ""
            for item in copy.get("RTROIObservationsSequence") or ():
                item.ROIInterpreter = ""
        if copy.get("SegmentSequence") is not None:
            copy.ContentCreatorName = copy.ContentDescription = ""
            copy.ContentDate, copy.ContentTime = copy.get("ContentDate") or NO_DATE, "000000"
            for item in copy.SegmentSequence:
                if str(item.get("SegmentAlgorithmType", "")) in ("AUTOMATIC", "SEMIAUTOMATIC"):
                    item.SegmentAlgorithmName = "unknown"

    def _meta(self, data: Any, copy: Any) -> Any:
        from pydicom.dataset import FileMetaDataset

        from gen_radiology.writers.dicom import IMPLEMENTATION

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = copy.get("SOPClassUID", "")
        meta.MediaStorageSOPInstanceUID = copy.get("SOPInstanceUID", "")
        meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
        meta.ImplementationClassUID = IMPLEMENTATION
        return meta


def read_file(path: Path, **given: Any) -> Any:
    """A DICOM file by pydicom, old ones without a preamble too; its transfer syntax is always set."""
    import pydicom

    data = pydicom.dcmread(path, force=True, **given)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        uids = pydicom.uid
        explicit = uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else explicit
    return data


def header_facts(clean: Any, characteristics: bool) -> dict[str, Any]:
    """The listed elements of a cleaned data set as JSON, for the sidecar."""
    listed = SIDECAR | (CHARACTERISTICS if characteristics else set())
    found: dict[str, Any] = {}
    for element in clean:
        if element.keyword in listed and element.value not in (None, ""):
            found[element.keyword] = _plain(element.value)
    return found


def _plain(value: Any) -> Any:
    from pydicom.multival import MultiValue

    if isinstance(value, MultiValue | list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, int) else float(value) if isinstance(value, float) else str(value)


def telling_words(data: Any) -> set[str]:
    """What a header tells of the patient and of people and places around, lower case, from three letters on."""
    found = set()
    for element in data.iterall():
        if element.tag.is_private or element.value in (None, ""):
            continue
        values = element.value if isinstance(element.value, list | tuple) else [element.value]
        if element.VR == "PN":
            found |= {w for value in values for w in re.split(r"[\s^=,.]+", str(value).casefold())}
        elif element.keyword in TELLING.split() or element.VR in ("DA", "DT") or element.keyword in NEW_UIDS:
            found |= {str(value).casefold().strip() for value in values}
    return {word for word in found if len(word) > 2}


def gives_away(value: Any, words: set[str]) -> bool:
    """Whether a text holds one of the words."""
    text = str(value).casefold()
    return any(word in text for word in words)


def without(text: str, words: set[str]) -> str:
    """A message without the words, for files that leave the house."""
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(re.escape(word), "[removed]", text, flags=re.IGNORECASE)
    return text


def burned_in(files: tuple[Path, ...]) -> str:
    """Why the pixels of a series may show who the patient is, "" where nothing says so."""
    tags = ["BurnedInAnnotation", "RecognizableVisualFeatures", "SOPClassUID"]
    for path in files:
        head = read_file(path, stop_before_pixels=True, specific_tags=tags)
        if str(head.get("BurnedInAnnotation", "")).upper() == "YES":
            return "Burned In Annotation (0028,0301) is YES: the pixels may show who the patient is"
        if str(head.get("RecognizableVisualFeatures", "")).upper() == "YES":
            return "Recognizable Visual Features (0028,0302) is YES: the patient may be recognized"
        sop, flag = str(head.get("SOPClassUID", "")), str(head.get("BurnedInAnnotation", "")).upper()
        if (sop + ".").startswith(SECONDARY_CAPTURE + ".") and flag != "NO":
            return "a secondary capture that does not rule out burned-in annotation"
    return ""


def _no_outlier(keyword: str, value: Any) -> Any:
    text = str(value)
    if keyword == "PatientAge" and text[:3].isdigit() and text[3:4].upper() == "Y" and int(text[:3]) > OLDEST:
        return f"{OLDEST + 1:03d}Y"
    return value


def _clear_embedded_overlays(data: Any, copy: Any) -> None:
    """Overlays may be drawn into pixel bits above those that are stored: these bits are cleared."""
    groups = {e.tag.group for e in data if 0x6000 <= e.tag.group <= 0x60FF}
    if not any((group, 0x0102) in data and int(data[group, 0x0102].value or 0) for group in groups):
        return
    allocated, stored = int(copy.get("BitsAllocated", 0)), int(copy.get("BitsStored", 0))
    if data.file_meta.TransferSyntaxUID.is_encapsulated or allocated not in (8, 16):
        raise DataError(
            f"{getattr(data, 'filename', '')}: an overlay is embedded in pixels that cannot be cleared here"
        )
    order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    pixels = np.frombuffer(copy.PixelData, np.dtype(f"{order}u{allocated // 8}"))
    down = int(copy.get("HighBit", stored - 1)) + 1 - stored
    mask = ((1 << stored) - 1) << down
    kept = pixels & mask
    if int(copy.get("PixelRepresentation", 0)):
        sign = 1 << (down + stored - 1)
        above = ((1 << allocated) - 1) & ~((sign << 1) - 1)
        kept = np.where(pixels & sign, kept | above, kept)
    copy.PixelData = kept.astype(pixels.dtype).tobytes()

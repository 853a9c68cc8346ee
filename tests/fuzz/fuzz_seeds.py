"""Small valid files of every kind, made from fixed numbers: what fuzzing starts from, and what is then damaged."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

CUBE = np.random.default_rng(0).random((5, 7, 3))
WAVELENGTHS = [500.0, 600.0, 700.0]
AXIAL = np.array([[0, 0, 0.7, -3.0], [0, 1.3, 0, 11.0], [2.5, 0, 0, -40.0], [0, 0, 0, 1]])  # z, y, x -> LPS mm
SHAPE = (3, 5, 7)
FRAME, SERIES, STUDY = "1.2.9", "1.2.3.4", "1.2.3"
EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE = (
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5",
)  # fmt: skip
ENVI = (
    "ENVI\nsamples=7\nlines = 5\nbands = 3\ndata type = 5\ninterleave = bsq\nbyte order = 0\nheader offset = 0\n"
    "wavelength units = nm\nwavelength = {500,\n600,700}\nbbl={1,1,0}\ndata ignore value = 0\n"
)
MATLAB_7_3 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"  # the start of its 512 bytes before the HDF5
RECIPE = """# Seed of the fuzzer.
gen = 1
name = "seed"
seed = 7

[volume]
size = [4, 16, 24]
[split]
val = 0.25
[dataset]
use = "retina-phantom"
subjects = 12
[codec]
use = "vqvae"
stride = [4, 4, 4]
[codec.fit]
steps = 3
batch = 2
lr = 1e-3
[prior]
use = "ddpm3d"
multipliers = [1, 2]
[prior.fit]
select = "loss"
[sampler]
use = "ddim"
[sample]
n = 4
conditions = "marginal"
[features.random]
use = "random-conv64"
[metrics.fid]
features = "features.random"
[metrics.psnr]
[condition.age]
kind = "scalar"
"""


def npy(array: np.ndarray = CUBE) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(compressed: bool = False) -> bytes:
    """What np.savez writes, without the time of day."""
    out = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in (("x", CUBE), ("wl", np.array(WAVELENGTHS))):
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array), compress_type=how)
    return out.getvalue()


def mat(compressed: bool) -> bytes:
    """MATLAB v5, by scipy; its header carries a date, which is replaced."""
    import scipy.io

    out = io.BytesIO()
    scipy.io.savemat(out, {"x": CUBE, "wl": [1.0, 2, 3], "s": {"t": "u"}}, do_compression=compressed)
    return b"MATLAB 5.0 MAT-file".ljust(116) + out.getvalue()[116:]


def hdf5(matlab: bool = False, **settings: object) -> bytes:
    """A cube and its wavelengths; matlab: behind the 512 bytes that MATLAB v7.3 puts first. settings: of the cube."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=512 if matlab else 0) as file:
        file.create_dataset("x", data=CUBE, **settings)
        file["wl"] = WAVELENGTHS
    made = out.getvalue()
    return MATLAB_7_3 + made[len(MATLAB_7_3) :] if matlab else made


def tiff(**settings: object) -> bytes:
    """Three pages of 5 x 7 pixels."""
    import tifffile

    out = io.BytesIO()
    pages = np.ascontiguousarray(CUBE.transpose(2, 0, 1).astype("f4"))
    tifffile.imwrite(out, pages, photometric="minisblack", metadata=None, **settings)
    return out.getvalue()


def tiff_band(number: int, **settings: object) -> bytes:
    """One band of the cube, 5 x 7 pixels."""
    import tifffile

    out = io.BytesIO()
    band = np.ascontiguousarray(60_000 * CUBE[..., number]).astype("u2")
    tifffile.imwrite(out, band, photometric="minisblack", metadata=None, **settings)
    return out.getvalue()


ZARR_2 = {
    "zarr_format": 2, "shape": [5, 7, 3], "chunks": [5, 7, 2], "dtype": "<f8", "order": "C", "fill_value": 0,
    "filters": None, "compressor": {"id": "zlib", "level": 1},
}  # fmt: skip
ZARR_3 = {
    "zarr_format": 3, "node_type": "array", "shape": [5, 7, 3], "data_type": "float64", "fill_value": 0,
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 7, 2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [
        {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip", "configuration": {"level": 1}},
    ],
    "attributes": {"wavelength_nm": WAVELENGTHS, "units": "counts"}, "dimension_names": ["y", "x", "band"],
}  # fmt: skip


def zarr_chunks(pack=zlib.compress) -> tuple[bytes, bytes]:
    """The two chunks of CUBE cut as ZARR_2 and ZARR_3 say: bands 0 and 1, then band 2 and padding."""
    padded = np.concatenate([CUBE, np.zeros((5, 7, 1))], axis=2)
    first, second = (np.ascontiguousarray(padded[..., k : k + 2]).tobytes() for k in (0, 2))
    return pack(first), pack(second)


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zarr(version: int = 3, stored: tuple[bytes, ...] | None = None, **keys: object) -> dict[str, bytes]:
    """The files of a zarr array by name. stored: its chunks, as packed. keys: of its metadata, unchecked."""
    meta = json.dumps({**(ZARR_3 if version == 3 else ZARR_2), **keys}).encode()
    if version == 3:
        return {"zarr.json": meta, **dict(zip(("c/0/0/0", "c/0/0/1"), stored or zarr_chunks(gzipped)))}
    return {".zarray": meta, **dict(zip(("0.0.0", "0.0.1"), stored or zarr_chunks()))}


def nifti(packed: bool = False, big: bool = False, two: bool = False, **fields: object) -> bytes:
    """(7, 5, 3) int16, by nibabel. fields: of the header, set at the end and unchecked."""
    import nibabel

    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    header = (nibabel.Nifti2Header if two else nibabel.Nifti1Header)(endianness=">" if big else "<")
    data = np.arange(np.prod(SHAPE), dtype="i2").reshape(SHAPE[::-1])
    image = kind(data, np.diag([-0.7, -1.3, 2.5, 1.0]), header)
    raw = bytearray(image.to_bytes())
    if fields:
        head = image.header.structarr.copy()
        for name, value in fields.items():
            head[name] = value
        head["magic"], head["vox_offset"] = image.header["magic"], fields.get("vox_offset", 544 if two else 352)
        raw[: head.nbytes] = head.tobytes()
    return gzip.compress(bytes(raw), mtime=0) if packed else bytes(raw)


def _object(sop: str, modality: str, syntax: str = EXPLICIT):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    data.Modality, data.PatientID, data.PatientName = modality, "P1", "Doe^Jane"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = STUDY, SERIES, FRAME
    return data


def _saved(data, compress: str = "") -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if compress:
            data.compress(compress, encoding_plugin="pydicom" if compress == RLE else "", generate_instance_uid=False)
        data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _pixels(data, stored: np.ndarray):
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * stored.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    little = data.file_meta.TransferSyntaxUID != BIG
    data.PixelData = stored.astype(stored.dtype.newbyteorder("<" if little else ">")).tobytes()
    data["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    return data


def _item(**values: object):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return Sequence([made])


def dicom(syntax: str = EXPLICIT, compress: str = "", size: tuple[int, int] = SHAPE[1:], **facts: object) -> bytes:
    """One CT slice of 5 x 7 pixels."""
    stored = np.random.default_rng(1).integers(-900, 1500, size).astype("i2")
    data = _pixels(_object("1.2.840.10008.5.1.4.1.1.2", "CT", syntax), stored)
    data.ImagePositionPatient, data.ImageOrientationPatient = [-3, 11, -40], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness, data.InstanceNumber = [1.3, 0.7], 2.5, 1
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for name, value in facts.items():
        setattr(data, name, value)
    return _saved(data, compress)


def dicom_enhanced() -> bytes:
    """Three frames of 5 x 7 pixels in one MR object."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    stored = np.random.default_rng(2).integers(0, 900, SHAPE).astype("u2")
    data = _pixels(_object("1.2.840.10008.5.1.4.1.1.4.1", "MR"), stored)
    data.NumberOfFrames = len(stored)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = _item(PixelSpacing=[1.3, 0.7], SliceThickness=2.5)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for z in range(len(stored)):
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=[-3, 11, -40 + 2.5 * z])
        frame.PixelValueTransformationSequence = _item(RescaleSlope=2, RescaleIntercept=0, RescaleType="US")
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return _saved(data)


def rtstruct(syntax: str = EXPLICIT, points: str = "") -> bytes:
    """One region with a contour on slice 1 and one between slices. points: text that replaces the first contour's."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    data = _object("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", syntax)
    data.StructureSetROISequence = _item(ROINumber=1, ROIName="GTV", ReferencedFrameOfReferenceUID=FRAME)
    data.RTROIObservationsSequence = _item(ReferencedROINumber=1, RTROIInterpretedType="GTV")
    contours = []
    for z in (-37.5, -36.4):
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
        corners = [(-2.6, 11.6), (0.5, 11.6), (0.5, 15.6), (-2.6, 15.6)]
        contour.ContourData = [f"{v:g}" for x, y in corners for v in (x, y, z)]
        contours.append(contour)
    data.ROIContourSequence = _item(ReferencedROINumber=1, ContourSequence=Sequence(contours))
    made = _saved(data)
    if points:
        told = "\\".join(contours[0].ContourData._list if hasattr(contours[0].ContourData, "_list") else [])
        made = made.replace(told.encode(), points.encode())
    return made


def segmentation(kind: str = "BINARY", compress: str = "", **facts: object) -> bytes:
    """Two segments, three frames of 5 x 7 voxels on the grid AXIAL."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    values = np.random.default_rng(3).integers(0, 2 if kind == "BINARY" else 255, SHAPE).astype("u1")
    data = _pixels(_object("1.2.840.10008.5.1.4.1.1.66.4", "SEG"), values)
    data.NumberOfFrames, data.SegmentationType = len(values), kind
    if kind == "BINARY":
        bits = np.packbits(values.ravel(), bitorder="little").tobytes()
        data.PixelData, data["PixelData"].VR = bits + b"\0" * (len(bits) % 2), "OB"
        data.BitsAllocated, data.BitsStored, data.HighBit = 1, 1, 0
    else:
        data.MaximumFractionalValue, data.SegmentationFractionalType = 255, "PROBABILITY"
    segments = []
    for n, label in enumerate(("liver", "GTV-1"), 1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = n, label
        segments.append(segment)
    data.SegmentSequence = Sequence(segments)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = _item(PixelSpacing=[1.3, 0.7], SliceThickness=2.5)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for z in range(len(values)):
        frame = Dataset()
        shift = 0.3 if z == 2 else 0.0  # the last frame lies between the image's voxels
        frame.PlanePositionSequence = _item(ImagePositionPatient=[-3 + shift, 11, -40 + 2.5 * z])
        frame.SegmentIdentificationSequence = _item(ReferencedSegmentNumber=1 + z % 2)
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for name, value in facts.items():
        setattr(data, name, value)
    return _saved(data, compress)


def lidc(before: str = "", **replace: str) -> bytes:
    """Two readers: an outlined nodule, a mark, a non-nodule. replace: text for text in the XML."""

    def roi(points, z="-37.5"):
        edge = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
        head = f"<imageZposition>{z}</imageZposition><imageSOP_UID>1.2</imageSOP_UID><inclusion>TRUE</inclusion>"
        return f"<roi>{head}{edge}</roi>"

    outline = roi([(2, 1), (4, 1), (4, 3), (2, 3)])
    rated = "<characteristics><malignancy>4</malignancy><texture>5</texture></characteristics>"
    session = (
        f"<readingSession><unblindedReadNodule><noduleID>N1</noduleID>{rated}{outline}</unblindedReadNodule>"
        f"<unblindedReadNodule><noduleID>N2</noduleID>{roi([(5, 3)])}</unblindedReadNodule>"
        "<nonNodule><nonNoduleID>3</nonNoduleID><imageZposition>-40</imageZposition>"
        "<locus><xCoord>1</xCoord><yCoord>2</yCoord></locus></nonNodule></readingSession>"
    )
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>{SERIES}</SeriesInstanceUid></ResponseHeader>{session * 2}</LidcReadMessage>"
    )
    for old, new in replace.items():
        text = text.replace(f"<{old}>", f"<{old}>{new}", 1) if new else text
    return text.encode()


def safetensors(**entries: dict) -> bytes:
    """Two tensors; entries replace or add those of the header."""
    header = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
        **entries,
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(40))


def checkpoint_state(**changes: object) -> bytes:
    state = {"step": 3, "best": {"name": "best-00000003", "value": 0.5}, "format": 1, "files": {}, "rank": 0}
    return json.dumps({**state, **changes}).encode()


def weights_record(**changes: object) -> bytes:
    record = {"format": 1, "sha256": "", "extra_state": {"counts": [1, 2]}, "header": {"seed": 7}, "torch": "2.13"}
    return json.dumps({**record, **changes}).encode()


def torch_file(bare: bool = False) -> bytes:
    """A state dict as torch.save writes it."""
    import torch

    out = io.BytesIO()
    state = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
    passed = []  # kept, so that the next one lies elsewhere
    while bare and _place(state["w"]) > _place(state["n"]):  # the bare format lists storages by address, as text
        passed.append(state["n"])
        state["n"] = torch.tensor(3)
    torch.save(state, out, _use_new_zipfile_serialization=not bare)
    made, keys = out.getvalue(), {}
    for key in re.findall(rb"\d{11,15}", made) if bare else ():  # addresses in memory: of another length, if at all
        keys.setdefault(key, b"%015d" % len(keys))
    for key, name in keys.items():
        made = made.replace(struct.pack("<I", len(key)) + key, struct.pack("<I", len(name)) + name)
    return made


def _place(tensor) -> str:
    return str(tensor.untyped_storage()._cdata)


def gz_zeros(megabytes: int) -> bytes:
    """Gzip members of zeros: a thousandth of what they become."""
    return gzip.compress(bytes(1 << 20), 9, mtime=0) * megabytes


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path

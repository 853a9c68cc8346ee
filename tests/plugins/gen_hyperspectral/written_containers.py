"""One cube written in many containers, each by its own library: what a user would have used."""

import gzip
import json

import h5py
import nibabel
import numcodecs
import numpy as np
import scipy.io
import tifffile
import zarr
import zarr.codecs

WAVELENGTH = [450.25, 501.5, 550.125, 640.0, 900.75]
SHAPE = (41, 37, 5)  # y, x, band


def cube(seed=0, shape=SHAPE):
    """uint16, (y, x, band)."""
    return np.random.default_rng(seed).integers(0, 60000, shape).astype(np.uint16)


def sidecar(path, **more):
    path.write_text(json.dumps({"wavelength_nm": WAVELENGTH, "units": "counts", **more}))


def npy(folder, name, c):
    np.save(folder / f"{name}.npy", c)
    sidecar(folder / f"{name}.json", axes="yxb")


def npy_bands_first(folder, name, c):
    np.save(folder / f"{name}.npy", c.transpose(2, 0, 1))
    sidecar(folder / f"{name}.json", axes="byx")


def npz(folder, name, c):
    np.savez_compressed(folder / f"{name}.npz", cube=c, wavelength_nm=WAVELENGTH)


def envi(interleave, order):
    def write(folder, name, c):
        stored = {"bsq": c.transpose(2, 0, 1), "bil": c.transpose(0, 2, 1), "bip": c}[interleave]
        (folder / f"{name}.dat").write_bytes(stored.astype("<>"[order] + "u2").tobytes())
        y, x, b = c.shape
        (folder / f"{name}.hdr").write_text(
            f"ENVI\nsamples = {x}\nlines = {y}\nbands = {b}\ndata type = 12\ninterleave = {interleave}\n"
            f"byte order = {order}\nheader offset = 0\ndata units = counts\nwavelength units = nm\n"
            f"wavelength = {{{', '.join(map(repr, WAVELENGTH))}}}\n"
        )

    return write


def mat5(compressed):
    def write(folder, name, c):
        content = {"cube": c, "wavelength_nm": WAVELENGTH}
        scipy.io.savemat(folder / f"{name}.mat", content, do_compression=compressed)

    return write


def mat73(folder, name, c):
    """As MATLAB writes it: a user block with its own header, axes in reverse, the class as an attribute."""
    path = folder / f"{name}.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in (("cube", c), ("wavelength_nm", np.array([WAVELENGTH]))):
            packing = {"chunks": (2, 9, 10), "compression": "gzip"} if value.ndim == 3 else {}
            data = file.create_dataset(key, data=value.T, **packing)
            data.attrs["MATLAB_class"] = np.bytes_("uint16" if value.ndim == 3 else "double")
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\x00\x02IM"
    with path.open("r+b") as file:
        file.write(head)


def hdf5(**packing):
    def write(folder, name, c):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            data = file.create_dataset("scan/cube", data=c.transpose(2, 0, 1), **packing)
            data.attrs["axes"] = "byx"
            data.attrs["units"] = "counts"
            file.create_dataset("scan/wavelength_nm", data=WAVELENGTH)

    return write


def description():
    return json.dumps({"wavelength_nm": WAVELENGTH, "units": "counts"})


def tiff(**how):
    def write(folder, name, c):
        values = c if how.get("planarconfig") == "contig" else c.transpose(2, 0, 1)
        tell = {"description": description(), "metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(folder / f"{name}.tif", values, **tell, **how)

    return write


def tiff_folder(folder, name, c):
    inside = folder / name
    inside.mkdir()
    for i, plane in enumerate(c.transpose(2, 0, 1)):  # band2, band5, band8, band11, band14: text would put 11 first
        packed = "zlib" if i % 2 else None
        tifffile.imwrite(inside / f"band{3 * i + 2}.tif", plane, compression=packed, rowsperstrip=7, metadata=None)
    sidecar(inside / "wavelengths.json")


def zarr_folder(fmt, compressors="auto", **how):
    def write(folder, name, c):
        group = zarr.open_group(folder / f"{name}.zarr", mode="w", zarr_format=fmt)
        array = group.create_array(
            "cube", shape=c.transpose(2, 0, 1).shape, chunks=(2, 9, 10), dtype="u2", compressors=compressors, **how
        )
        array[:] = c.transpose(2, 0, 1)
        array.attrs.update({"axes": "byx", "units": "counts", "wavelength_nm": WAVELENGTH})

    return write


def nifti(suffix, kind=nibabel.Nifti1Image):
    def write(folder, name, c):
        kind(np.ascontiguousarray(c.transpose(1, 0, 2)), np.eye(4)).to_filename(folder / f"{name}{suffix}")
        sidecar(folder / f"{name}.json")

    return write


def nifti_members(folder, name, c):
    """A .gz of several members, as parallel compressors write them."""
    nifti(".nii")(folder, name, c)
    plain = folder / f"{name}.nii"
    data = plain.read_bytes()
    (folder / f"{name}.nii.gz").write_bytes(gzip.compress(data[:999]) + gzip.compress(data[999:]))
    plain.unlink()


CONTAINERS = {
    "npy": npy,
    "npy bands first": npy_bands_first,
    "npz": npz,
    "ENVI bsq": envi("bsq", 0),
    "ENVI bil": envi("bil", 1),
    "ENVI bip": envi("bip", 0),
    "MAT v5": mat5(False),
    "MAT v5 packed": mat5(True),
    "MAT v7.3": mat73,
    "HDF5": hdf5(),
    "HDF5 gzip": hdf5(chunks=(2, 9, 10), compression="gzip", shuffle=True, fletcher32=True),
    "HDF5 planes": hdf5(chunks=(1, *SHAPE[:2]), compression="gzip"),
    "HDF5 lzf": hdf5(chunks=(5, 9, 10), compression="lzf"),
    "TIFF stack": tiff(),
    "TIFF packed": tiff(compression="zlib", predictor=True, rowsperstrip=7),
    "TIFF tiles": tiff(tile=(16, 32), compression="zlib"),
    "TIFF planar": tiff(planarconfig="separate", compression="zlib", rowsperstrip=7),
    "TIFF interleaved": tiff(planarconfig="contig", compression="zlib", rowsperstrip=7),
    "BigTIFF": tiff(bigtiff=True, byteorder=">"),
    "TIFF folder": tiff_folder,
    "zarr 2": zarr_folder(2),
    "zarr 2 gzip": zarr_folder(2, numcodecs.GZip(3), order="F", chunk_key_encoding={"name": "v2", "separator": "/"}),
    "zarr 3": zarr_folder(3),
    "zarr 3 gzip": zarr_folder(3, [zarr.codecs.GzipCodec(level=3), zarr.codecs.Crc32cCodec()]),
    "zarr 3 blosc": zarr_folder(3, zarr.codecs.BloscCodec()),
    "nii": nifti(".nii"),
    "nii.gz": nifti(".nii.gz"),
    "nii.gz members": nifti_members,
    "NIfTI-2 gz": nifti(".nii.gz", nibabel.Nifti2Image),
}

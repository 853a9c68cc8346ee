"""What this plugin offers: hyperspectral cubes, the retina phantom, and readers and writers of cube files."""

from gen_core.hooks import hookimpl


@hookimpl
def register_datasets(register):
    register(
        "hyperspectral",
        options="gen_hyperspectral.dataset_options:Hyperspectral",
        build="gen_hyperspectral.dataset.dataset:build",
        version=2,
        summary="A folder of hyperspectral cubes in any format that a reader opens, or crops of one large cube.",
    )
    register(
        "retina-phantom",
        options="gen_hyperspectral.phantom.dataset_options:RetinaPhantom",
        build="gen_hyperspectral.phantom.dataset:build",
        version=1,
        summary="Synthetic eyes from a layered model of the fundus, with masks; any size and band list.",
    )
    register(
        "fundus-photographs",
        options="gen_hyperspectral.photographs.dataset_options:FundusPhotographs",
        build="gen_hyperspectral.photographs.dataset:build",
        version=1,
        summary="A folder of colour fundus photographs with masks; three planes, blue, green and red.",
    )


@hookimpl
def register_readers(register):
    for name, module, summary in (
        ("npy", "npy", "numpy .npy and .npz arrays with an optional wavelength sidecar."),
        ("envi", "envi", "ENVI header and data (bsq, bil, bip; both byte orders)."),
        ("mat", "mat.reader", "MATLAB v5 and v7.3 files; asks which variable when several fit."),
        ("hdf5", "hdf5.reader", "HDF5 and netCDF-4: a 3-D array, named by its path when several fit (extra `hyper`)."),
        ("tiff", "tiff.reader", "TIFF and BigTIFF stacks, and folders of single-band TIFFs (extra `hyper`)."),
        ("zarr", "zarr.reader", "zarr folders, formats 2 and 3 (blosc, zstd and lz4: extra `hyper`)."),
        ("nifti-cube", "nifti", "NIfTI whose slices are bands, .nii and .nii.gz, for data sets of cubes."),
    ):
        register(
            name,
            options=f"gen_hyperspectral.reader_options:{name.title().replace('-', '')}Reader",
            build=f"gen_hyperspectral.containers.{module}:build",
            version=1,
            summary=summary,
        )


@hookimpl
def register_writers(register):
    for name, summary in (
        ("npy", "One .npy a volume, with a JSON sidecar."),
        ("envi", "ENVI bsq float32 with wavelengths, units and description."),
        ("hdf5", "One HDF5 file a volume (extra `hyper`)."),
    ):
        register(
            name,
            options=f"gen_hyperspectral.writer_options:{name.title()}Writer",
            build=f"gen_hyperspectral.writers.{name}:build",
            version=1,
            summary=summary,
        )

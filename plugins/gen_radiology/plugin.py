"""What this plugin offers: CT and MRI from DICOM and NIfTI, their masks, phantoms of both, and writers."""

from gen_core.hooks import hookimpl


@hookimpl
def register_datasets(register):
    for name, version, summary in (
        # 2: samples and records bear numbers where PatientIDs stood
        ("dicom", 2, "A folder of DICOM series, any nesting, with masks from RTSTRUCT and SEG."),
        ("nifti", 1, "A folder of NIfTI volumes with masks beside them."),
        ("lidc", 1, "LIDC-IDRI: CT series with the readers' XML; whole scans or nodules, with consensus masks."),
    ):
        register(
            name,
            options=f"gen_radiology.dataset_options:{name.title()}",
            build="gen_radiology.datasets.dataset:build",
            version=version,
            summary=summary,
        )
    register(
        "lung-ct-phantom",
        options="gen_radiology.phantoms.lung_ct_options:LungCtPhantom",
        build="gen_radiology.phantoms.lung_ct:build",
        version=1,
        summary="Synthetic thorax CT in HU with nodules of three kinds, with masks; any size.",
    )
    register(
        "brain-mri-phantom",
        options="gen_radiology.phantoms.brain_mri_options:BrainMriPhantom",
        build="gen_radiology.phantoms.brain_mri:build",
        version=1,
        summary="Synthetic brain MRI, T1-, T2- or PD-weighted, healthy or with lesions, with masks; any size.",
    )


@hookimpl
def register_readers(register):
    register(
        "dicom",
        options="gen_radiology.reader_options:DicomReader",
        build="gen_radiology.dicom.reader:build",
        version=1,
        summary="DICOM series of a folder, or one file (extra `dicom`).",
    )
    register(
        "nifti",
        options="gen_radiology.reader_options:NiftiReader",
        build="gen_radiology.nifti.reader:build",
        version=1,
        summary="NIfTI-1 and NIfTI-2, .nii and .nii.gz.",
    )


@hookimpl
def register_converters(register):
    register(
        "radiology",
        options="gen_radiology.writer_options:Converting",
        build="gen_radiology.conversion.converter:build",
        version=1,
        summary="DICOM to NIfTI or to de-identified DICOM, with masks from RTSTRUCT, SEG, NIfTI and LIDC XML.",
    )


@hookimpl
def register_writers(register):
    register(
        "nifti",
        options="gen_radiology.writer_options:NiftiWriter",
        build="gen_radiology.writers.nifti:build",
        version=1,
        summary="NIfTI-1 in RAS mm with masks and a JSON sidecar, marked synthetic.",
    )
    register(
        "dicom",
        options="gen_radiology.writer_options:DicomWriter",
        build="gen_radiology.writers.dicom:build",
        version=1,
        summary="A DICOM series with masks as SEG, marked synthetic (extra `dicom`).",
    )

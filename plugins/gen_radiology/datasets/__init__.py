"""The data sets `dicom`, `nifti` and `lidc`: sources prepared, cached, split, cut and scaled."""

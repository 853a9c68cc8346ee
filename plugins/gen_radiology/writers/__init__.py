"""Synthetic volumes and masks as NIfTI or DICOM, marked as what they are."""

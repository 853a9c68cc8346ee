"""Volumes and masks as NIfTI or DICOM; synthetic ones bear marks of what they are."""

"""DICOM as it comes from scanners and archives: files into series, series into volumes, objects into masks."""

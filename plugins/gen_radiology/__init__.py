"""CT and MRI. From the ground: `volumes`; `dicom`, `nifti`, `lidc`, `writers`; `sources`, `conversion`; `datasets`.

`phantoms` stand apart. Settings that several rooms read lie beside `plugin.py`, which says what there is.
"""

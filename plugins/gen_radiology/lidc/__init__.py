"""Readings of LIDC-IDRI: from the XML of several readers to nodules, and to masks on the CT that was read."""

"""Made for another plugin interface."""

GEN_API = 99

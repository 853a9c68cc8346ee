"""The data set `fundus-photographs`: colour photographs as volumes of three planes."""

"""Trackers: the curves and scores of a run as a table, and in TensorBoard, Weights & Biases and MLflow."""

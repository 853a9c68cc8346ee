"""From physical values to volumes: bands, sizes, masks, scales, and the views of training."""

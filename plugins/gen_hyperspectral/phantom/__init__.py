"""The data set `retina-phantom`: eyes that never were, grown, layered and rendered with true masks."""

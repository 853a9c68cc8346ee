"""Adversarial priors on single slices: StyleGAN2 with adaptive augmentation, and DCGAN."""

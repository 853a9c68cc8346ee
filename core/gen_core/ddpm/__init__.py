"""Discrete-time diffusion for any network: schedules, the noise path, and the prior that needs only a network."""

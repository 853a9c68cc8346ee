"""The probability-flow ODE of any diffusion prior: its velocity, an adaptive solver, and the likelihood it gives."""

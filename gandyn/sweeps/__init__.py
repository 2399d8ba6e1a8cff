"""MANY GANs in time: grids of settings, their plan, the ensemble that trains side by side, the host loop, engines."""

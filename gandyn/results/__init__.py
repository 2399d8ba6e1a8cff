"""What is kept: results folders, checkpoints, locks, exports. Knows nothing of what a GAN is."""

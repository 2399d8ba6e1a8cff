"""ONE GAN: its variants, its game, one step of it. Knows nothing of many GANs, files or figures."""

"""Machine perceptual quality: what lossy compression does to machine perception."""

"""Machine perceptual quality: what lossy compression does to machine perception."""

DISTRIBUTION = "machine-perceptual-quality"
"""What pip calls this project: ``mpq`` is another one's name there."""

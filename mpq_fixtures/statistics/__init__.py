"""What statistics of samples say: values over resamples, retention, intervals and rank correlations. Pure functions."""

"""Statistics that more than one stage needs: resampling, autoregression, monotone fits, smoothing."""

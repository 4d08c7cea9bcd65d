"""The calibration that a gate works with: its file, and the predictor in it. No torch."""

"""Offline distillation of a draft model (`sluice distill`)."""

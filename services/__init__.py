"""Sluice: hybrid LLM inference for devices on thin links."""

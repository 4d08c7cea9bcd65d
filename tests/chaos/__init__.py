"""Breaking things on purpose: real verifiers, brokers and Redis servers as processes, many simulated devices in this one.

``make chaos`` runs every scenario at full scale (``python -m tests.chaos``); ``test_chaos.py`` runs them small.
"""

"""The gate: which drafted tokens are asked about (DESIGN section 3).

``uncertainty`` holds the signals, ``importance`` what attention says, ``rule`` the decision. All pure.
"""

from services.edge_worker.gate.rule import Gate
from services.edge_worker.gate.uncertainty import Draws, uncertainty

__all__ = ["Draws", "Gate", "uncertainty"]

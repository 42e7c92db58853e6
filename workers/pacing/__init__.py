"""Pacing: how fast a key is used, whether its provider is called at all, and whose turn it is.

All of it protects; none of it decides who pays. What must hold exactly (consent, credits, which
key) is checked in the claim. So where Redis is away, calls go on unpaced.
"""

from workers.pacing.permits import Gate, Hold, Permit, Result
from workers.pacing.shares import Shares

__all__ = ["Gate", "Hold", "Permit", "Result", "Shares"]

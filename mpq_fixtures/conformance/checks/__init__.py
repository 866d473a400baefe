"""What a codec must do, in the order of a reader who asks why one fails: are its bytes what they seem, is the decoder on its own, is the
signal what it should be.
"""

from mpq_fixtures.conformance.check import CHECKS, Check
from mpq_fixtures.conformance.checks import bitstreams, decoders, restored

__all__ = ["CHECKS", "Check", "bitstreams", "decoders", "restored"]

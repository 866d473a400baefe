"""A session of pytest: which cases its tests take, what their processes send, and the run as a whole, written and shown at its end."""

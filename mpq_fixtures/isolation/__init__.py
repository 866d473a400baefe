"""Codecs in a process of their own: because their libraries contradict this package's, or to see that nothing else helps them.

`server` is what runs in the process, `client` what speaks to it, `environment` what makes the Python environment of those whose
libraries contradict ours. A message is a JSON header and a payload, over a pair of connected sockets; nothing is pickled.
"""

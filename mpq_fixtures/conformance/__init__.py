"""What keeps codecs honest: the same bytes in every run, and a decoder that has the bytes and nothing else.

`audit` is the short form that runs with every evaluation, `kit` the long one behind ``mpq conformance``. Both need a codec in a process
that has never seen the originals: `fresh` is that process as seen from here, `served` what runs in it. `signals` makes what codecs are
tried on, `damage` damages bitstreams, `reach` looks for originals that a codec kept, `trial` holds what `checks` share.
"""

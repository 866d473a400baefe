"""What a run writes and reads: tables of its cases and samples, and what is kept of one run after another."""

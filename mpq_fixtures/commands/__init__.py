"""What the `mpq` command does outside of a test run: one file a subcommand, and what fetch and doctor share."""

"""Make mpq's options and fixtures known to pytest."""

pytest_plugins = ["mpq_fixtures.plugin", "mpq_fixtures.fixtures"]

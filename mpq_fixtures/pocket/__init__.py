"""The embedded models and data, and how they were made."""

"""Models: loaded from a checkpoint or a ``python:`` callable, asked in batches that are chosen by measuring, and what they answer.

What loads one belongs to its task (`mpq_fixtures.tasks.Task.load`).
"""

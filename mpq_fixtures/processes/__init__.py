"""What a process may use of its machine, what it is at, what it leaves behind, and how it ends."""

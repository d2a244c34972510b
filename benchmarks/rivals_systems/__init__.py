"""What ``rivals.py`` needs: which systems there are, their environments, and their processes."""

"""What belongs to ``models.py``: shapes of models, and one file for each kind of measurement."""

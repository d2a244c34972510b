"""Model families: what ``patch`` knows of each kind of model."""

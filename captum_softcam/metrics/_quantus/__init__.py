"""Interface to Quantus: its metrics as columns of a comparison, and base classes of our metrics as its classes."""

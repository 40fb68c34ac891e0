"""The border with Quantus: its metrics as columns of a comparison, and the interface of its classes around ours."""

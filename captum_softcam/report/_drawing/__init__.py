"""The means of all pictures: samples as pictures, pixels and lines in axes, signals, pages of paper."""

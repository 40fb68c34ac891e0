"""The means of all pictures: samples as pictures, figures and their lines, signals, pages of paper."""

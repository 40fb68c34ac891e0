"""Turn files into pictures, masks and volumes, and annotations into masks."""

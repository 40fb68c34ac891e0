"""Run a model with other values at a layer, exactly and without traces in it."""

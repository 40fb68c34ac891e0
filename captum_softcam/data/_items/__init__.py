"""Find image, label and mask in what a data set of the user's yields."""

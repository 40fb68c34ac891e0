"""Look up and list what lies on the disk: folders, names of images, masks, tables; no image is opened."""

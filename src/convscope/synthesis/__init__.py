"""Pictures made to order: one loop of ascent over canvases, transforms and optimizers."""

"""From stored images to the batch that the network receives."""

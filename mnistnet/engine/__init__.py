"""The mathematics: layers, networks, losses, optimizers, and the workers that share them."""

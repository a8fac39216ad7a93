"""What a step optimises, and how: the loss, the optimizer, the learning rate."""

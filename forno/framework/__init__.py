"""What a tensor means: tensors, autograd, creation, files, and the conductor that turns recorded lines into launches."""

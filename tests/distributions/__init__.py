"""forno.distributions against torch.distributions."""

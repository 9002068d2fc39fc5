"""What the steps cost, measured beside plain reference variants in one run."""

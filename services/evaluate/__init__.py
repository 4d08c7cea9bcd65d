"""`sluice evaluate`: the methods side by side on the same prompts."""

"""What the services share; imports none of them."""

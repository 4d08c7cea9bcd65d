"""The OpenAI HTTP API of the edge worker."""

"""The edge worker: HTTP API, draft model, gate, session loop, local fallback."""

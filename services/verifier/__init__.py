"""The verifier: consumer, scheduler, engine with the target model, context store."""

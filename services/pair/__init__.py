"""Draft model and target model in one process: the edge's drafter and the verifier's engine behind the session loop's seams,
without a network, for one answer or many at once."""
